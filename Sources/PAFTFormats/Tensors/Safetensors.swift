// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase

/// One mapped safetensors file, its header checked before any tensor can be reached.
package final class Safetensors: Sendable {
  package let path: String
  /// In order of their data in the file.
  package let entries: [TensorEntry]
  package let metadata: [(key: String, value: String)]
  private let index: [ByteKey: Int]

  /// Throws `Fault` when the file cannot be read and `SafetensorsError` when it is malformed.
  package init(path: String) throws {
    let file = try MappedFile(path)
    let header = try SafetensorsHeader(file.bytes, path: path)
    let data = UnsafeRawBufferPointer(rebasing: file.bytes[header.dataOffset...])
    self.path = path
    metadata = header.metadata
    entries = header.entries.map { entry in
      TensorEntry(
        name: entry.name, dtype: entry.dtype, shape: entry.shape, count: entry.count,
        bytes: UnsafeRawBufferPointer(rebasing: data[entry.range]), file: file)
    }
    index = Dictionary(
      entries.enumerated().map { (ByteKey($1.name), $0) }, uniquingKeysWith: { first, _ in first })
  }

  package var names: [String] { entries.map(\.name) }

  package subscript(name: String) -> TensorEntry? { index[ByteKey(name)].map { entries[$0] } }
}
