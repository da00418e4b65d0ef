// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
import PAFTFormats

/// Words to ids: the `model` of a tokenizer file.
enum TokenModel: Sendable {
  case bpe(BPEModel)
  case unigram(UnigramModel)

  private static let known = ["BPE", "Unigram"]

  /// - Parameters:
  ///   - overBytes: the pre-tokenizer is byte-level.
  ///   - pieces: the SentencePiece file that `component` was made of.
  init(
    _ component: Component, overBytes: Bool, pieces: SentencePieceModel? = nil
  ) throws(Fault) {
    // Files of before 2020 carry no type.
    switch try component.optionalString("type") ?? "BPE" {
    case "BPE": self = .bpe(try BPEModel(component, overBytes: overBytes, pieces: pieces))
    case "Unigram":
      if let pieces {
        self = .unigram(try UnigramModel(pieces, source: component.place))
        return
      }
      guard !overBytes else {
        throw Fault(
          .data,
          "\(component.place): Unigram behind a ByteLevel pre_tokenizer is not supported")
      }
      self = .unigram(try UnigramModel(component))
    default: try component.unknown("model", known: Self.known)
    }
  }

  var vocabulary: Vocabulary {
    switch self {
    case .bpe(let model): model.vocabulary
    case .unigram(let model): model.vocabulary
    }
  }

  /// See `BPEModel.safeMark`. A unigram model's sums may round differently when a word is cut.
  var safeMark: [UInt8]? {
    switch self {
    case .bpe(let model): model.safeMark
    case .unigram: nil
    }
  }

  /// Appends the ids of `word`.
  func encode(
    _ word: UnsafeBufferPointer<UInt8>, _ workspace: Workspace, into ids: inout [Int32]
  ) {
    switch self {
    case .unigram(let model): model.encode(word, &workspace.path, into: &ids)
    case .bpe(let model):
      if let id = model.whole(word) {
        ids.append(id)
      } else {
        workspace.symbols.removeAll(keepingCapacity: true)
        model.symbols(of: word, into: &workspace.symbols)
        workspace.merging.run(&workspace.symbols, model.merges)
        ids.append(contentsOf: workspace.symbols)
      }
    }
  }
}
