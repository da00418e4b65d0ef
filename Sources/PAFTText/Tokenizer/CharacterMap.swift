// SPDX-License-Identifier: Apache-2.0

import Foundation
internal import PAFTBase

/// SentencePiece's compiled normalization rules (`Precompiled`): a double-array trie (Aoe 1989, as
/// darts-clone packs it) from byte strings to replacements.
///
/// The layout: 4 bytes little-endian with the trie's size in bytes; the trie's units of 4 bytes;
/// replacements, each ended by a NUL, which the trie's values point into. Every index is checked: a
/// damaged map finds nothing, it never reads elsewhere.
struct CharacterMap: Sendable {
  private let units: [UInt32]
  private let replacements: [UInt8]

  init(_ component: Component) throws(Fault) {
    let text = try component.string("precompiled_charsmap")
    let place = "\(component.place).precompiled_charsmap"
    guard let data = Data(base64Encoded: text) else {
      throw Fault(.data, "\(place): not base64")
    }
    try self.init(Array(data), place: place)
  }

  init(_ bytes: [UInt8], place: String) throws(Fault) {
    guard bytes.count >= 4 else {
      throw Fault(.data, "\(place): \(bytes.count) bytes, expected a trie and its size")
    }
    func word(_ at: Int) -> UInt32 {
      UInt32(bytes[at]) | UInt32(bytes[at + 1]) << 8 | UInt32(bytes[at + 2]) << 16
        | UInt32(bytes[at + 3]) << 24
    }
    let size = Int(word(0))
    guard size % 4 == 0, size > 0, size <= bytes.count - 4 else {
      throw Fault(
        .data,
        "\(place): a trie of \(size) bytes, expected a multiple of 4 from 4 to \(bytes.count - 4)")
    }
    units = (0..<size / 4).map { word(4 + 4 * $0) }
    replacements = Array(bytes[(4 + size)...])
  }

  /// Text after the rules, grapheme by grapheme as the tokenizers library goes about it: a grapheme
  /// of less than six bytes is replaced as a whole by what its shortest beginning stands for, all
  /// others character by character.
  func apply(_ bytes: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(bytes.count)
    for grapheme in String(decoding: bytes, as: UTF8.self) {
      let part = Array(grapheme.utf8)
      if part.count < 6, let replacement = replacement(part[...]) {
        result.append(contentsOf: replacement)
        continue
      }
      var at = 0
      while at < part.count {
        let end = min(at + Scalars.length(part[at]), part.count)
        result.append(contentsOf: replacement(part[at..<end]) ?? part[at..<end])
        at = end
      }
    }
    return result
  }

  /// What the shortest beginning of `key` that has a rule stands for.
  private func replacement(_ key: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
    var node = Self.offset(units[0])
    for byte in key where byte != 0 {
      node ^= Int(byte)
      guard node < units.count, Self.label(units[node]) == UInt32(byte) else { return nil }
      let hasValue = units[node] >> 8 & 1 == 1
      node ^= Self.offset(units[node])
      guard hasValue else { continue }
      guard node < units.count else { return nil }
      let start = Int(units[node] & 0x7FFF_FFFF)
      guard start < replacements.count else { return nil }
      return replacements[start...].prefix { $0 != 0 }
    }
    return nil
  }

  /// What the longest rule that begins at `start` makes, and of how many bytes, as SentencePiece itself
  /// applies them.
  func longest(_ bytes: [UInt8], _ start: Int) -> (text: ArraySlice<UInt8>, length: Int)? {
    var best: (text: ArraySlice<UInt8>, length: Int)?
    var node = Self.offset(units[0])
    var at = start
    while at < bytes.count, bytes[at] != 0 {
      node ^= Int(bytes[at])
      guard node < units.count, Self.label(units[node]) == UInt32(bytes[at]) else { break }
      let hasValue = units[node] >> 8 & 1 == 1
      node ^= Self.offset(units[node])
      at += 1
      guard hasValue else { continue }
      guard node < units.count else { break }
      let value = Int(units[node] & 0x7FFF_FFFF)
      guard value < replacements.count else { break }
      best = (replacements[value...].prefix { $0 != 0 }, at - start)
    }
    return best
  }

  private static func label(_ unit: UInt32) -> UInt32 { unit & (1 << 31 | 0xFF) }
  private static func offset(_ unit: UInt32) -> Int {
    Int(unit >> 10) << Int((unit & 1 << 9) >> 6)
  }
}
