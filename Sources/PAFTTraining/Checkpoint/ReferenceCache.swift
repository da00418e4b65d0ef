// SPDX-License-Identifier: Apache-2.0

package import PAFTBase
internal import PAFTFormats
import PAFTText

/// Reference log-probabilities that outlive a run, so that the next one over the same base and pairs
/// need not compute them again:
///
///     <folder>/reference-<hash of the identity>/logps.safetensors, manifest.json
///
/// `pairs` U64 [n, 2] are hashes of the pairs' token ids, `logps` F64 [n, 2] the sums of the chosen and
/// the rejected answer. The identity says what else they depend on (weights, precision, kernels); it is
/// in the manifest, with a checksum of the file. A folder appears whole or not at all.
package struct ReferenceCache: Sendable {
  package typealias Sums = (chosen: Double, rejected: Double)

  private static let format = 1
  private static let name = "logps"
  private let folder: String
  private let identity: String

  package init(in folder: String, identity: String) {
    self.folder = folder + "/reference-" + ConfigHash.of(identity)
    self.identity = identity
  }

  /// What tells a pair from others: its tokens, which are what data and template came to. And where its
  /// prompt is cut, because it is shared up to there, which decides the order of sums.
  package static func key(_ pair: PreferenceExample, cuts: [Int] = []) -> ContentHash {
    var hash = ContentHash()
    hash.add(cuts.map { Int32(truncatingIfNeeded: $0) })
    hash.add(pair.prompt)
    hash.add(pair.chosen)
    hash.add(pair.rejected)
    return hash
  }

  /// All pairs that are known; none where nothing was stored yet.
  /// Throws a `.checkpoint` fault for files that are damaged or belong to something else.
  package func load() throws -> [ContentHash: Sums] {
    guard FileSystem.exists(folder) else { return [:] }
    let manifest = try Manifest.verify(folder)
    guard manifest["format"]?.int == Self.format, manifest["identity"]?.string == identity else {
      throw Fault(.checkpoint, "\(quoted(folder)): written by another version or for another base")
    }
    let file = try Safetensors(path: folder + "/" + Self.name + ".safetensors")
    guard let keys = file["pairs"], let sums = file["logps"], keys.shape.count == 2,
      keys.shape[1] == 2, sums.shape == keys.shape, keys.dtype == .u64, sums.dtype == .f64
    else { throw Fault(.checkpoint, "\(quoted(folder)): no pairs and logps of one length") }
    var known: [ContentHash: Sums] = [:]
    for row in 0..<keys.shape[0] {
      func word(_ bytes: UnsafeRawBufferPointer, _ column: Int) -> UInt64 {
        UInt64(
          littleEndian: bytes.loadUnaligned(
            fromByteOffset: 16 * row + 8 * column, as: UInt64.self))
      }
      known[ContentHash(high: word(keys.bytes, 0), low: word(keys.bytes, 1))] = (
        Double(bitPattern: word(sums.bytes, 0)), Double(bitPattern: word(sums.bytes, 1))
      )
    }
    return known
  }

  /// Replaces what is stored.
  package func store(_ known: [ContentHash: Sums]) throws(Fault) {
    let rows = known.sorted { ($0.key.high, $0.key.low) < ($1.key.high, $1.key.low) }
    var keys: [UInt64] = []
    var sums: [UInt64] = []
    for (key, value) in rows {
      keys += [key.high.littleEndian, key.low.littleEndian]
      sums += [
        value.chosen.bitPattern.littleEndian, value.rejected.bitPattern.littleEndian,
      ]
    }
    let output = try OutputFolder(folder, replacing: true)
    let writer = try SafetensorsWriter(
      folder: output.path, name: Self.name,
      tensors: [
        TensorDeclaration("pairs", .u64, [rows.count, 2]),
        TensorDeclaration("logps", .f64, [rows.count, 2]),
      ], maximumShardBytes: .max, metadata: [("format", "paft-reference")])
    if !rows.isEmpty {
      try write(keys, as: "pairs", to: writer)
      try write(sums, as: "logps", to: writer)
    }
    try writer.finish()
    var manifest = JSONObject()
    manifest["format"] = JSON(Self.format)
    manifest["identity"] = .string(identity)
    try output.commit(manifest: manifest)
  }

  private func write(
    _ words: [UInt64], as name: String, to writer: SafetensorsWriter
  ) throws(Fault) {
    var failure: Fault?
    words.withUnsafeBytes { bytes in
      do throws(Fault) { try writer.append(name, raw: bytes) } catch { failure = error }
    }
    if let failure { throw failure }
  }
}
