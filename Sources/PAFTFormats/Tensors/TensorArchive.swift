// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase

/// The tensors of a model or adapter folder, whichever way they are stored:
/// `model.safetensors`, or `model.safetensors.index.json` with its shards, or
/// `adapter_model.safetensors`; or one safetensors file given by its path.
package final class TensorArchive: Sendable {
  package static let singleName = "model.safetensors"
  package static let indexName = "model.safetensors.index.json"
  package static let adapterName = "adapter_model.safetensors"

  package let path: String
  /// Files that make it up.
  package let files: [Safetensors]
  /// File by file, in order of the data.
  package let entries: [TensorEntry]
  private let index: [ByteKey: Int]

  /// Throws `Fault` (66 nothing there, 65 bad index) or `SafetensorsError`.
  package init(path: String) throws {
    self.path = path
    files = try Self.open(path)
    entries = files.flatMap(\.entries)
    var index: [ByteKey: Int] = [:]
    for (position, entry) in entries.enumerated() {
      if let other = index.updateValue(position, forKey: ByteKey(entry.name)) {
        throw Fault(
          .data,
          "\(path): tensor \(quoted(entry.name)) is in both \(entries[other].path) and \(entry.path)"
        )
      }
    }
    self.index = index
  }

  package var names: [String] { entries.map(\.name) }

  package subscript(name: String) -> TensorEntry? { index[ByteKey(name)].map { entries[$0] } }

  /// Bytes of all tensors.
  package var totalBytes: Int { entries.reduce(0) { $0 + $1.bytes.count } }

  // MARK: - Finding the files

  private static func open(_ path: String) throws -> [Safetensors] {
    switch FileSystem.kind(path) {
    case .folder: break
    case nil: throw Fault(.missingInput, "\(path): no such model folder or safetensors file")
    default: return [try Safetensors(path: path)]
    }
    // The order transformers looks in.
    if FileSystem.exists(path + "/" + singleName) {
      return [try Safetensors(path: path + "/" + singleName)]
    }
    if FileSystem.exists(path + "/" + indexName) {
      return try shards(of: path, index: path + "/" + indexName)
    }
    if FileSystem.exists(path + "/" + adapterName) {
      return [try Safetensors(path: path + "/" + adapterName)]
    }
    let pickles = (try? FileSystem.list(path))?.filter {
      $0.hasSuffix(".bin") || $0.hasSuffix(".pt")
    }
    throw Fault(
      .missingInput, "\(path): no \(singleName), \(indexName) or \(adapterName)",
      hint: pickles?.first.map { "\($0) is a pickle: convert it to safetensors first" })
  }

  private static func shards(of folder: String, index path: String) throws -> [Safetensors] {
    guard let map = try JSON.read(path: path)["weight_map"]?.object, !map.isEmpty else {
      throw Fault(.data, "\(path): no weight_map, expected an object of tensor and file names")
    }
    var shardNames: [String] = []
    var expected: [String: [String]] = [:]
    for (tensor, value) in map {
      guard let shard = value.string, isPlainName(shard) else {
        throw Fault(
          .data,
          "\(path): tensor \(quoted(tensor)) is mapped to \(value.string.map { quoted($0) } ?? value.kind), expected the name of a file beside the index"
        )
      }
      if expected[shard] == nil { shardNames.append(shard) }
      expected[shard, default: []].append(tensor)
    }
    var files: [Safetensors] = []
    for shard in shardNames {
      guard FileSystem.exists(folder + "/" + shard) else {
        throw Fault(
          .missingInput, "\(path): shard \(quoted(shard)) is missing",
          hint: "the download may be incomplete")
      }
      let file = try Safetensors(path: folder + "/" + shard)
      for tensor in expected[shard]! where file[tensor] == nil {
        throw Fault(.data, "\(file.path): no tensor \(quoted(tensor)), which the index puts there")
      }
      for name in file.names where map[name]?.string != shard {
        throw Fault(
          .data,
          "\(file.path): tensor \(quoted(name)) is not in the index, or in another file there")
      }
      files.append(file)
    }
    return files
  }

  /// A name that cannot lead out of the folder.
  private static func isPlainName(_ name: String) -> Bool {
    !name.isEmpty && name != "." && name != ".." && !name.utf8.contains(UInt8(ascii: "/"))
      && !name.utf8.contains(0)
  }
}
