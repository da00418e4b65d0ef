// SPDX-License-Identifier: Apache-2.0

package import PAFTBase
internal import PAFTFormats

/// A model as merge configurations name it: a folder, or `folder+adapter` for a PEFT adapter on it.
package struct ModelReference: Sendable, Hashable {
  package var model: String
  package var adapter: String?

  package init(model: String, adapter: String? = nil) {
    self.model = model
    self.adapter = adapter
  }

  /// Splits at the first `+` unless the whole text is a folder. Paths that do not exist from the
  /// working directory are tried from `folder`, that of the configuration.
  package init(_ text: String, relativeTo folder: String = ".") {
    if FileSystem.exists(Self.resolve(text, folder)) {
      self.init(model: Self.resolve(text, folder))
    } else if let plus = text.firstIndex(of: "+") {
      self.init(
        model: Self.resolve(String(text[..<plus]), folder),
        adapter: Self.resolve(String(text[text.index(after: plus)...]), folder))
    } else {
      self.init(model: text)
    }
  }

  package var text: String { adapter.map { model + "+" + $0 } ?? model }

  private static func resolve(_ path: String, _ folder: String) -> String {
    if path.hasPrefix("/") || FileSystem.exists(path) { return path }
    let beside = folder + "/" + path
    return FileSystem.exists(beside) ? beside : path
  }

  /// Throws 66 with a hint for what looks like a name on a hub: there is no network here.
  package func checkExists() throws(Fault) {
    for path in [model, adapter].compactMap({ $0 }) where !FileSystem.isFolder(path) {
      let looksRemote = !path.hasPrefix(".") && !path.hasPrefix("/")
      throw Fault(
        .missingInput, "no model folder \(quoted(path))",
        hint: path.contains("@")
          ? "revisions are not read: give the folder of the one you mean"
          : looksRemote ? "models are read from local folders; nothing is downloaded" : nil)
    }
  }
}
