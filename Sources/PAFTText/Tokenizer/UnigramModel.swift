// SPDX-License-Identifier: Apache-2.0

import Foundation
internal import PAFTBase
import PAFTFormats

/// The `model` of a tokenizer file: a unigram language model over pieces (Kudo 2018). A word is cut
/// into the pieces whose log-probabilities have the largest sum (Viterbi).
struct UnigramModel: Sendable {
  let vocabulary: Vocabulary
  private let scores: [Double]
  private let trie: PieceTrie
  private let unknown: Int32
  private let unknownScore: Double
  /// Sums are kept in 32 bits and unknown characters never looked up, as SentencePiece does; else as the
  /// tokenizers library does.
  private let isSentencePiece: Bool
  /// `<0x00>` … `<0xFF>` where a missing character falls back to its bytes.
  private let fallback: [Int32]?

  /// An unknown character costs this much more than the least probable piece.
  private static let unknownPenalty = 10.0
  /// Every place of a text looks at all pieces that start there.
  private static let longestPiece = 1024

  init(_ component: Component) throws(Fault) {
    guard let value = component.member("vocab") else {
      throw component.missing("vocab", "an array of [piece, score]")
    }
    guard let array = value.array else {
      throw component.wrong("vocab", value, "an array of [piece, score]")
    }
    let place = component.place + ".vocab"
    var vocabulary = Vocabulary(expecting: array.count)
    var scores: [Double] = []
    scores.reserveCapacity(array.count)
    var trie = PieceTrie()
    for (id, entry) in array.enumerated() {
      guard let pair = entry.array, pair.count == 2, let piece = pair[0].string,
        let score = pair[1].double, score.isFinite
      else { throw Fault(.data, "\(place)[\(id)]: expected [piece, score]") }
      guard piece.utf8.count <= Self.longestPiece else {
        throw Fault(
          .data,
          "\(place)[\(id)]: a piece of \(piece.utf8.count) bytes, expected at most "
            + "\(Self.longestPiece)")
      }
      try vocabulary.add(piece, id, place: place)
      scores.append(Self.asRead(score))
      trie.insert(piece.utf8, Int32(id))
    }
    let unknown = try component.int("unk_id")
    guard scores.indices.contains(unknown) else {
      throw Fault(
        .data, "\(component.place).unk_id: \(unknown), expected 0 to \(scores.count - 1)")
    }
    self.unknown = Int32(unknown)
    unknownScore = (scores.min() ?? 0) - Self.unknownPenalty
    fallback =
      try component.bool("byte_fallback", default: false)
      ? (0..<256).map { vocabulary.id(BPEModel.byteName($0)) ?? -1 } : nil
    isSentencePiece = false
    self.vocabulary = vocabulary
    self.scores = scores
    self.trie = trie
  }

  /// Of a SentencePiece file: its scores bit by bit, and of the pieces those that text may be cut into.
  init(_ model: SentencePieceModel, source: String) throws(Fault) {
    var vocabulary = Vocabulary(expecting: model.pieces.count)
    var trie = PieceTrie()
    var unknown: Int32?
    var (least, most) = (Float.greatestFiniteMagnitude, -Float.greatestFiniteMagnitude)
    for (id, piece) in model.pieces.enumerated() {
      guard piece.text.utf8.count <= Self.longestPiece else {
        throw Fault(
          .data,
          "\(source): piece \(id): \(piece.text.utf8.count) bytes, expected at most "
            + "\(Self.longestPiece)")
      }
      try vocabulary.add(piece.text, id, place: "\(source): pieces")
      switch piece.type {
      case .normal:
        (least, most) = (min(least, piece.score), max(most, piece.score))
        trie.insert(piece.text.utf8, Int32(id))
      case .userDefined: trie.insert(piece.text.utf8, Int32(id))
      case .unknown: unknown = Int32(id)
      case .control, .unused, .byte: break
      }
    }
    guard let unknown else { throw Fault(.data, "\(source): no piece of type unknown") }
    self.unknown = unknown
    unknownScore = Double(least - Float(Self.unknownPenalty))
    scores = model.pieces.map { piece in
      // What a person defined wins over any other cut: more than the best piece for each byte.
      piece.type == .userDefined
        ? Double(Float(piece.text.utf8.count) * most) - 0.1 : Double(piece.score)
    }
    fallback =
      model.byteFallback ? (0..<256).map { vocabulary.id(BPEModel.byteName($0)) ?? -1 } : nil
    isSentencePiece = true
    self.vocabulary = vocabulary
    self.trie = trie
  }

  /// A score as the tokenizers library reads it: the digits as one integer, divided by a power of
  /// ten. That may be a last bit away from the nearest double, and a last bit decides between
  /// segmentations of equal sums ("a" + "aa" against "aa" + "a").
  private static func asRead(_ score: Double) -> Double {
    var digits: UInt64 = 0
    var exponent = 0
    var inFraction = false
    let parts = score.magnitude.description.split(separator: "e")
    for character in parts[0].utf8 {
      if character == UInt8(ascii: ".") {
        inFraction = true
        continue
      }
      // Shortest descriptions have at most 17 digits: nothing overflows, but nothing may trap.
      digits = digits &* 10 &+ UInt64(character &- UInt8(ascii: "0"))
      if inFraction { exponent -= 1 }
    }
    if parts.count > 1 { exponent += Int(parts[1]) ?? 0 }
    guard digits > 0, exponent < 0, exponent >= -22 else { return score }
    let value = Double(digits) / pow(10, Double(-exponent))
    return score < 0 ? -value : value
  }

  /// The best way to each byte of a word, kept between calls for its memory.
  struct Path {
    fileprivate struct Node {
      var score: Double
      var start: Int32
      var id: Int32
    }
    fileprivate var nodes: [Node] = []
  }

  /// Appends the ids of a word.
  ///
  /// - Parameter word: well-formed UTF-8 of less than 2^31 bytes.
  func encode(
    _ word: UnsafeBufferPointer<UInt8>, _ path: inout Path, into ids: inout [Int32]
  ) {
    let unreached = Path.Node(score: 0, start: -1, id: 0)
    path.nodes.removeAll(keepingCapacity: true)
    path.nodes.append(contentsOf: repeatElement(unreached, count: word.count + 1))
    path.nodes.withUnsafeMutableBufferPointer { nodes in
      search(word, nodes)
    }
    collect(word, path.nodes, into: &ids)
  }

  private func search(
    _ word: UnsafeBufferPointer<UInt8>, _ nodes: UnsafeMutableBufferPointer<Path.Node>
  ) {
    func offer(_ end: Int, _ candidate: Path.Node) {
      var candidate = candidate
      if isSentencePiece { candidate.score = Double(Float(candidate.score)) }
      // Strictly better: of equals the one found first stays, as in the tokenizers library.
      if nodes[end].start < 0 || candidate.score > nodes[end].score { nodes[end] = candidate }
    }
    var at = 0
    while at < word.count {
      let here = nodes[at].score
      let length = min(Scalars.length(word[at]), word.count - at)
      var single = false
      var node: Int32 = -1
      var end = at
      while end < word.count {
        node = trie.next(node, word[end])
        if node < 0 { break }
        end += 1
        let piece = trie.piece(node)
        if piece >= 0 {
          offer(
            end, Path.Node(score: scores[Int(piece)] + here, start: Int32(at), id: piece))
          if end - at == length { single = true }
        }
      }
      if !single {
        offer(
          at + length, Path.Node(score: unknownScore + here, start: Int32(at), id: unknown))
      }
      at += length
    }
  }

  /// Walks the best path backwards; unknown neighbours become one.
  private func collect(
    _ word: UnsafeBufferPointer<UInt8>, _ nodes: [Path.Node], into ids: inout [Int32]
  ) {
    let first = ids.count
    var end = word.count
    while end > 0 {
      let node = nodes[end]
      guard node.id == unknown else {
        ids.append(node.id)
        end = Int(node.start)
        continue
      }
      var start = end
      while start > 0, nodes[start].id == unknown { start = Int(nodes[start].start) }
      appendUnknown(UnsafeBufferPointer(rebasing: word[start..<end]), into: &ids)
      end = start
    }
    ids[first...].reverse()
  }

  /// The ids of a stretch without pieces, in reverse.
  private func appendUnknown(_ stretch: UnsafeBufferPointer<UInt8>, into ids: inout [Int32]) {
    if !isSentencePiece, let id = vocabulary.id(stretch) {
      ids.append(id)
    } else if let fallback, stretch.allSatisfy({ fallback[Int($0)] >= 0 }) {
      for byte in stretch.reversed() { ids.append(fallback[Int(byte)]) }
    } else {
      ids.append(unknown)
    }
  }
}
