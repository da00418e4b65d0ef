// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTText

/// `paft validate`: reads recipes and data files as a run would, and reports what it would make of
/// them.
package struct ValidateVerb: Sendable {
  package var files: [String]
  /// Tokenise data with this model's tokenizer; nil: only read it.
  package var model: String?
  package var maxLength = 1024

  package init(files: [String]) { self.files = files }

  package struct Verdict: Sendable {
    package let file: String
    /// nil: the file is as it should be.
    package let error: PAFTError?
    package let lines: [String]

    package var json: String {
      var object = JSONObject()
      object["file"] = .string(file)
      object["valid"] = JSON(error == nil)
      if let error {
        object["error"] = .string(error.message)
        object["hint"] = JSON(optional: error.hint)
        object["exit_code"] = JSON(Int(error.exitCode))
      }
      object["notes"] = .array(lines.map { .string($0) })
      return JSON.object(object).serialized()
    }
  }

  package func run() throws(PAFTError) -> [Verdict] {
    let tokenizer = try PAFTError.wrapping { try model.map { try Tokenizer(folder: $0) } }
    return files.map { file in
      do {
        return Verdict(file: file, error: nil, lines: try check(file, tokenizer))
      } catch { return Verdict(file: file, error: PAFTError(error), lines: []) }
    }
  }

  private func check(_ file: String, _ tokenizer: Tokenizer?) throws -> [String] {
    if file.hasSuffix(".yaml") || file.hasSuffix(".yml") {
      let (recipe, notices) = try Recipe.resolve(
        ConfigNode.read(file), overrides: [], folder: FileSystem.parent(of: file))
      let inputs =
        [recipe.model]
        + [recipe.sft, recipe.align].compactMap { $0 }
        .flatMap { [$0.data, $0.evalData].compactMap { $0 } }
      return notices + ["a recipe for \(recipe.model)"]
        + inputs.filter { !FileSystem.exists($0) }.map { "not there yet: \($0)" }
    }
    let data = try DataSet.load(path: file)
    let pairs = data.rows[0].record.isPreference
    guard tokenizer != nil || Self.isTokenised(data) else {
      return ["\(data.rows.count) rows of \(data.rows[0].record.kind)"]
    }
    let builder = ExampleBuilder(
      tokenizer: tokenizer, options: ExampleOptions(maxLength: maxLength))
    return pairs
      ? try builder.preference(data).summary.report : try builder.sft(data).summary.report
  }

  private static func isTokenised(_ data: DataSet) -> Bool {
    data.rows.allSatisfy {
      switch $0.record {
      case .tokens, .preferenceTokens: true
      default: false
      }
    }
  }
}
