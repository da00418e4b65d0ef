// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
import PAFTFormats

/// Token ↔ id of the model and of the added tokens together. Ids may have gaps.
struct Vocabulary: Sendable {
  private var table: ByteTable
  private var tokens: [String?] = []

  /// Sixteen million tokens; a bigger id is a damaged file, not a model.
  static let idLimit = 1 << 24

  init(expecting count: Int) {
    table = ByteTable(expecting: count)
    tokens.reserveCapacity(count)
  }

  /// Largest id plus one.
  var size: Int { tokens.count }

  func id(_ token: String) -> Int32? { table.find(token.utf8) }
  func id(_ token: UnsafeBufferPointer<UInt8>) -> Int32? { table.find(token) }

  func token(_ id: Int32) -> String? {
    id >= 0 && Int(id) < tokens.count ? tokens[Int(id)] : nil
  }

  mutating func add(_ token: String, _ id: Int, place: String) throws(Fault) {
    guard (0..<Self.idLimit).contains(id) else {
      throw Fault(
        .data,
        "\(place): token \(quoted(token, limit: 40)) has id \(id), expected 0 to \(Self.idLimit - 1)"
      )
    }
    while tokens.count <= id { tokens.append(nil) }
    if let other = tokens[id] {
      throw Fault(
        .data,
        "\(place): tokens \(quoted(other, limit: 40)) and \(quoted(token, limit: 40)) share id \(id)"
      )
    }
    guard table.insert(token.utf8, Int32(id)) else {
      throw Fault(.data, "\(place): token \(quoted(token, limit: 40)) appears twice")
    }
    tokens[id] = token
  }
}
