// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
import PAFTFormats

/// A SentencePiece `.model` (Kudo & Richardson 2018): pieces with scores, and how text is normalized.
struct SentencePieceModel: Sendable {
  enum Kind: UInt64 { case unigram = 1, bpe = 2, word = 3, character = 4 }
  enum PieceType: UInt64 {
    case normal = 1, unknown = 2, control = 3, userDefined = 4, unused = 5, byte = 6
  }

  struct Piece {
    var text = ""
    var score: Float = 0
    var type = PieceType.normal
  }

  private(set) var pieces: [Piece] = []
  private(set) var kind = Kind.unigram
  private(set) var byteFallback = false
  private(set) var marksSuffix = false
  private(set) var bos: Int?
  private(set) var eos: Int?
  private(set) var characterMap: ArraySlice<UInt8> = []
  private(set) var addsPrefix = true
  private(set) var removesExtraBlanks = true
  private(set) var marksBlanks = true

  /// Fields of `ModelProto`, its `SentencePiece`, `TrainerSpec` and `NormalizerSpec` that matter.
  init(_ bytes: [UInt8], source: String) throws(Fault) {
    var ids = (bos: Int64(1), eos: Int64(2))
    var message = ProtocolBuffer(bytes[...], source)
    while let (field, value) = try message.next() {
      guard case .bytes(let part) = value else { continue }
      switch field {
      case 1: pieces.append(try Self.piece(part, "\(source): piece \(pieces.count)"))
      case 2: try readTrainer(part, "\(source): trainer_spec", &ids)
      case 3: try readNormalizer(part, "\(source): normalizer_spec")
      default: break
      }
    }
    guard !pieces.isEmpty else {
      throw Fault(.data, "\(source): no pieces, expected a SentencePiece model")
    }
    bos = named(ids.bos)
    eos = named(ids.eos)
  }

  /// The id of a control token, if the model has it (-1 says it has not).
  private func named(_ id: Int64) -> Int? {
    guard let id = Int(exactly: id), pieces.indices.contains(id), pieces[id].type == .control
    else { return nil }
    return id
  }

  private static func piece(_ bytes: ArraySlice<UInt8>, _ place: String) throws(Fault) -> Piece {
    var piece = Piece()
    var message = ProtocolBuffer(bytes, place)
    while let (field, value) = try message.next() {
      switch (field, value) {
      case (1, .bytes(let text)):
        guard let text = String(validating: text, as: UTF8.self) else {
          throw Fault(.data, "\(place): its text is not UTF-8")
        }
        piece.text = text
      case (2, .fixed32(let bits)): piece.score = Float(bitPattern: bits)
      case (3, .integer(let number)):
        guard let type = PieceType(rawValue: number) else {
          throw Fault(.data, "\(place): type \(number), expected 1 to 6")
        }
        piece.type = type
      default: break
      }
    }
    guard !piece.text.isEmpty, piece.score.isFinite else {
      throw Fault(
        .data,
        "\(place): \(piece.text.isEmpty ? "no text" : "score \(piece.score)"), expected a piece "
          + "with a finite score")
    }
    return piece
  }

  private mutating func readTrainer(
    _ bytes: ArraySlice<UInt8>, _ place: String, _ ids: inout (bos: Int64, eos: Int64)
  ) throws(Fault) {
    var message = ProtocolBuffer(bytes, place)
    while let (field, value) = try message.next() {
      guard case .integer(let number) = value else { continue }
      switch field {
      case 3:
        guard let kind = Kind(rawValue: number) else {
          throw Fault(.data, "\(place).model_type: \(number), expected 1 to 4")
        }
        self.kind = kind
      case 24: marksSuffix = number != 0
      case 35: byteFallback = number != 0
      case 41: ids.bos = Int64(Int32(truncatingIfNeeded: number))
      case 42: ids.eos = Int64(Int32(truncatingIfNeeded: number))
      default: break
      }
    }
  }

  private mutating func readNormalizer(
    _ bytes: ArraySlice<UInt8>, _ place: String
  ) throws(Fault) {
    var message = ProtocolBuffer(bytes, place)
    while let (field, value) = try message.next() {
      switch (field, value) {
      case (2, .bytes(let map)): characterMap = map
      case (3, .integer(let flag)): addsPrefix = flag != 0
      case (4, .integer(let flag)): removesExtraBlanks = flag != 0
      case (5, .integer(let flag)): marksBlanks = flag != 0
      default: break
      }
    }
  }
}
