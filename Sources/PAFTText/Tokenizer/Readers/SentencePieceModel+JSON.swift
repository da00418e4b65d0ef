// SPDX-License-Identifier: Apache-2.0

import Foundation
internal import PAFTBase
import PAFTFormats

extension SentencePieceModel {
  /// The tokenizer.json that says the same, in the components that transformers converts to.
  ///
  /// - Parameters: addsBOS, addsEOS: whether the post-processor puts them around a text;
  ///   SentencePiece itself leaves that to its caller.
  func json(source: String, addsBOS: Bool, addsEOS: Bool) throws(Fault) -> JSON {
    guard marksBlanks, !marksSuffix else {
      throw Fault(
        .data,
        "\(source): blanks \(marksSuffix ? "marked behind words" : "that are not marked") are not "
          + "supported")
    }
    let (normalizer, preTokenizer) = normalization
    return [
      "version": "1.0", "truncation": nil, "padding": nil,
      "added_tokens": .array(addedTokens),
      "normalizer": normalizer,
      "pre_tokenizer": preTokenizer,
      "post_processor": TokenizerJSON.template(
        before: addsBOS ? token(bos) : nil, behind: addsEOS ? token(eos) : nil),
      "decoder": decoder,
      "model": try model(source),
    ]
  }

  private func token(_ id: Int?) -> (text: String, id: Int)? { id.map { (pieces[$0].text, $0) } }

  private var addedTokens: [JSON] {
    pieces.indices.compactMap { id in
      switch pieces[id].type {
      case .control, .unknown: TokenizerJSON.addedToken(pieces[id].text, id, special: true)
      case .userDefined: TokenizerJSON.addedToken(pieces[id].text, id, special: false)
      default: nil
      }
    }
  }

  private var normalization: (normalizer: JSON, preTokenizer: JSON) {
    var steps: [JSON] = []
    if !characterMap.isEmpty {
      steps.append([
        "type": "Precompiled",
        "precompiled_charsmap": JSON(Data(characterMap).base64EncodedString()),
      ])
    }
    if removesExtraBlanks {
      // As SentencePiece does it: blanks, and no other white space, go in front and are joined
      // within; behind, the marks of blanks go too.
      for (pattern, content) in [("\\A +", ""), ("[ ▁]+\\z", ""), (" {2,}", " ")] {
        steps.append([
          "type": "Replace", "pattern": ["Regex": .string(pattern)], "content": .string(content),
        ])
      }
      if addsPrefix { steps.append(["type": "Prepend", "prepend": "▁"]) }
      return (
        ["type": "Sequence", "normalizers": .array(steps)],
        [
          "type": "Metaspace", "replacement": "▁", "prepend_scheme": "never",
          "split": JSON(kind == .unigram),
        ]
      )
    }
    if addsPrefix { steps.append(["type": "Prepend", "prepend": "▁"]) }
    steps.append(["type": "Replace", "pattern": ["String": " "], "content": "▁"])
    return (["type": "Sequence", "normalizers": .array(steps)], nil)
  }

  private var decoder: JSON {
    var steps: [JSON] = [
      ["type": "Replace", "pattern": ["String": "▁"], "content": " "], ["type": "ByteFallback"],
      ["type": "Fuse"],
    ]
    if addsPrefix { steps.append(["type": "Strip", "content": " ", "start": 1, "stop": 0]) }
    return ["type": "Sequence", "decoders": .array(steps)]
  }

  private func model(_ source: String) throws(Fault) -> JSON {
    guard let unknown = pieces.firstIndex(where: { $0.type == .unknown }) else {
      throw Fault(.data, "\(source): no piece of type unknown")
    }
    switch kind {
    case .unigram:
      return [
        "type": "Unigram", "unk_id": JSON(unknown), "byte_fallback": JSON(byteFallback),
        "vocab": .array(pieces.map { [JSON($0.text), .number(Double($0.score))] }),
      ]
    case .bpe:
      var vocabulary = JSONObject()
      for (id, piece) in pieces.enumerated() {
        guard piece.type != .unused else {
          throw Fault(
            .data,
            "\(source): piece \(id): \(quoted(piece.text, limit: 40)) is of type unused, which is not "
              + "supported of bpe")
        }
        guard vocabulary.insertNew(piece.text, JSON(id)) else {
          throw Fault(
            .data, "\(source): piece \(id): \(quoted(piece.text, limit: 40)) appears twice")
        }
      }
      return [
        "type": "BPE", "dropout": nil, "unk_token": JSON(pieces[unknown].text),
        "continuing_subword_prefix": nil, "end_of_word_suffix": nil, "fuse_unk": true,
        "byte_fallback": JSON(byteFallback), "ignore_merges": false,
        "vocab": .object(vocabulary),
        "merges": TokenizerJSON.merges(
          pieces.map { $0.type == .normal ? Array($0.text.utf8) : [] },
          scores: pieces.map { Double($0.score) },
          prefersLong: true
        ) { String(decoding: $0, as: UTF8.self) },
      ]
    case .word, .character:
      throw Fault(
        .data, "\(source): model_type \(kind), which is not supported",
        hint: "supported: unigram, bpe")
    }
  }
}
