// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTMachine
import PAFTMerging

/// `paft merge CONFIG OUT`: mergekit's YAML to a model, or adapters to an adapter.
package struct MergeVerb: Sendable {
  package var configuration: String
  package var output: String
  package var threads: Int?
  package var replaces = false
  /// Rank of the adapter that the merged change is exported as; nil: a model.
  package var adapterRank: Int?
  /// Write the merged change of the base, without its zeros, instead of a model.
  package var isSparse = false
  /// Bytes of a file of the model at most; nil: as transformers has it.
  package var shardBytes: Int?
  /// File for the whole report, Markdown or by its ending JSON.
  package var reportFile: String?

  package init(configuration: String, output: String) {
    self.configuration = configuration
    self.output = output
  }

  package enum Progress: Sendable {
    case plan(String)
    case tensor(index: Int, count: Int, name: String)
    case note(String)
  }

  package func run(_ progress: @escaping @Sendable (Progress) -> Void) throws(PAFTError) -> (
    text: String, json: String
  ) {
    try PAFTError.wrapping {
      try checkReport()
      let recipe = try MergeRecipe.parse(path: configuration)
      let clock = Stopwatch()
      let place = try Machine.detect().place(threads: threads)
      let (text, json) = try place.run(named: "merge") { team in
        try merge(recipe, try team.mergeLanes(), progress)
      }
      var object = json.object ?? JSONObject()
      object["output"] = .string(output)
      object["seconds"] = JSON(clock.seconds)
      return (text, JSON.object(object).serialized(pretty: true))
    }
  }

  /// A report that could not be written is a fault before the merge, not behind it.
  private func checkReport() throws(Fault) {
    guard let reportFile else { return }
    let folder = FileSystem.parent(of: reportFile)
    let isInside = FileSystem.parent(of: output + "/report") == folder
    guard isInside || FileSystem.isFolder(folder) else {
      throw Fault(.cannotCreate, "report \(quoted(reportFile)): no folder \(quoted(folder))")
    }
    guard !FileSystem.isFolder(reportFile) else {
      throw Fault(.cannotCreate, "report \(quoted(reportFile)) is a folder, expected a file")
    }
    guard !isInside else { return }
    // Whether a file can be made there the system alone knows: some folders refuse root too.
    let isNew = !FileSystem.exists(reportFile)
    _ = try OutputFile(appendingTo: reportFile)
    if isNew { try FileSystem.remove(reportFile) }
  }

  private func merge(
    _ recipe: MergeRecipe, _ lanes: Lanes, _ progress: @escaping @Sendable (Progress) -> Void
  ) throws -> (text: String, json: JSON) {
    func tell(_ name: String) -> (MergeProgress) -> Void {
      { step in
        switch step {
        case .planned(let tensors, let bytes, let peak):
          var line = "\(name): \(tensors) tensors"
          if bytes > 0 { line += ", \(ByteCount(bytes)) to write" }
          if peak > 0 { line += ", \(ByteCount(peak)) of buffers" }
          progress(.plan(line))
        case .merging(let name, let index, let count):
          progress(.tensor(index: index, count: count, name: name))
        case .note(let text): progress(.note(text))
        }
      }
    }
    switch recipe {
    case .adapter(let settings):
      if adapterRank != nil || isSparse {
        throw Fault(
          .usage, "\(configuration) merges adapters already",
          hint: "leave out --as-adapter and --as-sparse and set parameters: {rank: …}")
      }
      guard reportFile == nil else {
        throw Fault(
          .usage, "\(configuration) merges adapters, --report describes the merge of a model")
      }
      let report = try settings.run(
        output: output, replacing: replaces, lanes: lanes,
        progress: tell(settings.combination.method.rawValue))
      return (Self.text(report), report.json)
    case .model(var settings):
      if let shardBytes { settings.maximumShardBytes = shardBytes }
      if let adapterRank {
        let report = try AdapterExtraction.run(
          settings, rank: adapterRank, output: output, replacing: replaces, lanes: lanes,
          progress: tell(settings.method.name))
        return (Self.text(report), report.json)
      }
      if isSparse {
        let report = try SparseExtraction.run(
          settings, output: output, replacing: replaces, lanes: lanes,
          progress: tell(settings.method.name))
        let share = Numbers.percent(Double(report.changed) / Double(max(report.entries, 1)))
        return (
          "\(Numbers.grouped(report.changed)) of \(Numbers.grouped(report.entries)) entries "
            + "(\(share)) changed, \(ByteCount(report.bytes))\n", report.json
        )
      }
      let report = try Merge.run(
        settings, output: output, replacing: replaces, detailed: reportFile != nil, lanes: lanes,
        progress: tell(settings.method.name))
      if let reportFile {
        let json = report.json.serialized(pretty: true) + "\n"
        try FileSystem.write(reportFile.hasSuffix(".json") ? json : report.markdown, to: reportFile)
      }
      return (Self.text(report), report.json)
    }
  }

  private static func text(_ report: AdapterMergeReport) -> String {
    var text = "\(report.count) modules of rank \(report.rank)"
    guard let error = report.error else { return text + ", exact by the method's formula\n" }
    text += ", relative error \(Numbers.percent(error, 3)) of the change\n"
    var table = TextTable(["weight", "norm", "error"])
    for module in report.modules.sorted(by: { $0.error > $1.error }).prefix(8) {
      table.add([
        module.name, Numbers.significant(module.norm), Numbers.percent(module.error, 3),
      ])
    }
    return text + table.text
  }

  private static func text(_ report: MergeReport) -> String {
    guard !report.groups.isEmpty else { return "" }
    let models = report.models.enumerated().map { "\($0 + 1): \($1)\n" }.joined()
    return report.table(report.groups, title: "tensors").text + models
  }
}
