// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
internal import PAFTFormats

/// Which files of a merge are finished, written beside them until all are. A merge that was killed goes on
/// behind them, if it is the same merge: configuration and input files alike. Where it is not, it starts
/// anew, and `note` says what differs.
final class MergeJournal {
  private static let name = ".merge-journal.json"

  /// What the result depends on: the configuration, then a line for each input file, whose size and
  /// time stand for its contents, as in make.
  private let inputs: [String]
  /// Names of the files that are whole and on the medium.
  private(set) var finished: [String] = []
  /// What to tell about an unfinished merge that was found.
  private(set) var note: String?

  init(_ configuration: MergeConfiguration) throws(Fault) {
    var inputs = [
      "1 \(configuration.maximumShardBytes) \(configuration.allowMismatch) "
        + configuration.serialized() + (configuration.text ?? "")
    ]
    let named = configuration.references
    for folder in Set(
      (named.bases + named.sources).flatMap { [$0.model, $0.adapter].compactMap { $0 } }
    ).sorted() {
      for name in try FileSystem.list(folder) where FileSystem.isFile(folder + "/" + name) {
        let path = folder + "/" + name
        let time = try FileSystem.modificationTime(path)
        inputs.append("\(path) \(try FileSystem.size(path)) \(time)")
      }
    }
    self.inputs = inputs
  }

  /// Whether a folder is what a merge like this left, with something finished in it.
  func takesOver(_ folder: String) -> Bool {
    let path = folder + "/" + Self.name
    guard FileSystem.isFile(path), let json = try? JSON.read(path: path) else { return false }
    let old = (json["inputs"]?.array ?? []).compactMap(\.string)
    let shards = (json["finished"]?.array ?? []).compactMap(\.string).filter {
      !$0.utf8.contains(UInt8(ascii: "/")) && FileSystem.isFile(folder + "/" + $0)
    }
    if old.first != inputs.first {
      note = "starts anew: an unfinished merge had another configuration"
    } else if let changed = inputs.first(where: { !old.contains($0) }) {
      let words = changed.split(separator: " ").dropLast(2)
      note =
        "starts anew: since an unfinished merge, \(words.joined(separator: " ")) has changed"
    } else if old.count != inputs.count {
      note = "starts anew: an unfinished merge had more input files"
    } else if shards.isEmpty {
      note = "starts anew: an unfinished merge had finished no file"
    } else {
      finished = shards
      note =
        "goes on behind \(shards.count) finished files of a merge that was cut off; the figures are "
        + "of the rest"
      return true
    }
    return false
  }

  /// Removes what is not finished from the folder, and writes the journal there.
  func begin(in folder: String) throws(Fault) {
    for name in try FileSystem.list(folder) where name != Self.name && !finished.contains(name) {
      try FileSystem.remove(folder + "/" + name)
    }
    try write(folder)
  }

  /// - Parameter file: is on the medium.
  func finish(_ file: String, in folder: String) throws(Fault) {
    finished.append(file)
    try write(folder)
  }

  func end(in folder: String) throws(Fault) { try FileSystem.remove(folder + "/" + Self.name) }

  private func write(_ folder: String) throws(Fault) {
    let json: JSON = [
      "inputs": .array(inputs.map { .string($0) }),
      "finished": .array(finished.map { .string($0) }),
    ]
    // Not made durable: of a lost or empty journal nothing is taken over.
    let (path, text) = (folder + "/" + Self.name, json.serialized())
    try OutputFile(creating: path + ".new").write(text)
    try FileSystem.rename(path + ".new", to: path)
  }
}
