// SPDX-License-Identifier: Apache-2.0

package import PAFTBase
package import PAFTFormats

/// A checkpoint whose files all have the sizes and checksums its manifest promises.
package struct CheckpointReader: Sendable {
  package let folder: String
  package let step: Int
  package let configHash: String
  /// What the branch gave as `state` when it saved.
  package let state: JSON
  private let buffers: Safetensors

  /// Verifies every byte; throws a `.checkpoint` fault that says what is wrong.
  init(verifying folder: String, step: Int) throws(Fault) {
    let manifest = try Manifest.verify(folder)
    let format = manifest["format"]?.int
    guard format == CheckpointStore.format else {
      throw Fault(
        .checkpoint,
        "format \(format.map(String.init) ?? "unknown"), expected \(CheckpointStore.format)")
    }
    let names = [CheckpointStore.buffersFile, CheckpointStore.stateName]
    guard let files = manifest["files"]?.object, names.allSatisfy({ files[$0] != nil }) else {
      throw Fault(.checkpoint, "the manifest does not list \(names.joined(separator: " and "))")
    }
    let description: JSON
    do {
      description = try JSON.read(path: folder + "/" + CheckpointStore.stateName)
      buffers = try Safetensors(path: folder + "/" + CheckpointStore.buffersFile)
    } catch { throw Fault(.checkpoint, (error as? any Diagnosable)?.message ?? "\(error)") }
    // The manifest is not under a checksum; the same members of the state are.
    guard let hash = description["config_hash"]?.string, let state = description["state"],
      hash == manifest["config_hash"]?.string,
      description["step"]?.int == step, manifest["step"]?.int == step
    else {
      throw Fault(.checkpoint, "\(CheckpointStore.stateName), the manifest and the folder disagree")
    }
    self.folder = folder
    self.step = step
    configHash = hash
    self.state = state
  }

  /// Copies the buffers back into the run's memory. Names, types and lengths must be those that were
  /// saved; nothing is written otherwise.
  package func load(into targets: [CheckpointBuffer]) throws(Fault) {
    for target in targets {
      guard let entry = buffers[target.name], entry.dtype == target.dtype,
        entry.shape == [target.count]
      else {
        let found = buffers[target.name].map { "\($0.shape) of \($0.dtype.rawValue)" } ?? "none"
        throw Fault(
          .checkpoint,
          "\(quoted(folder)): buffer \(quoted(target.name)): found \(found), expected \([target.count]) of \(target.dtype.rawValue)",
          hint: "it was written by another version or for another model")
      }
    }
    guard targets.count == buffers.entries.count else {
      throw Fault(
        .checkpoint,
        "\(quoted(folder)): found \(buffers.entries.count) buffers, expected \(targets.count)",
        hint: "it was written by another version or for another model")
    }
    for target in targets {
      guard let entry = buffers[target.name] else { continue }
      target.bytes.copyMemory(from: entry.bytes)
      entry.release()
    }
  }
}
