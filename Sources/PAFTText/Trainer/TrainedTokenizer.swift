// SPDX-License-Identifier: Apache-2.0

package import PAFTBase
import PAFTFormats

/// A byte-level BPE tokenizer as its trainer left it, and its files in Hugging Face's layout.
package struct TrainedTokenizer: Sendable {
  /// Index = id.
  package let vocabulary: [String]
  package let merges: [(String, String)]
  package let specialTokens: [String]

  /// `tokenizer.json`.
  ///
  /// - Parameter bos: put before each text when special tokens are asked for; nil adds nothing.
  package func json(bos: String? = nil) -> JSON {
    var tokens = JSONObject()
    for (id, token) in vocabulary.enumerated() { tokens[token] = JSON(id) }
    let added = specialTokens.enumerated().map { id, token -> JSON in
      [
        "id": JSON(id), "content": JSON(token), "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true,
      ]
    }
    let byteLevel: JSON = [
      "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    ]
    return [
      "version": "1.0", "truncation": nil, "padding": nil,
      "added_tokens": .array(added),
      "normalizer": nil,
      "pre_tokenizer": byteLevel,
      "post_processor": bos.map(template) ?? byteLevel,
      "decoder": byteLevel,
      "model": [
        "type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil,
        "end_of_word_suffix": nil, "fuse_unk": false, "byte_fallback": false,
        "ignore_merges": false,
        "vocab": .object(tokens),
        "merges": .array(merges.map { [JSON($0), JSON($1)] }),
      ],
    ]
  }

  private func template(_ bos: String) -> JSON {
    let token: JSON = ["SpecialToken": ["id": JSON(bos), "type_id": 0]]
    let text: JSON = ["Sequence": ["id": "A", "type_id": 0]]
    let second: JSON = ["Sequence": ["id": "B", "type_id": 1]]
    let id = specialTokens.firstIndex { $0.utf8.elementsEqual(bos.utf8) } ?? 0
    var specials = JSONObject()
    specials[bos] = ["id": JSON(bos), "ids": [JSON(id)], "tokens": [JSON(bos)]]
    return [
      "type": "TemplateProcessing", "single": [token, text], "pair": [token, text, second],
      "special_tokens": .object(specials),
    ]
  }

  /// Writes tokenizer.json and tokenizer_config.json into `folder`, which is made if absent.
  ///
  /// - Parameters: bos, eos, pad: special tokens of the vocabulary; with a bos, it is also put before
  ///   each text.
  package func write(
    to folder: String, bos: String? = nil, eos: String? = nil, pad: String? = nil,
    maxLength: Int = 1 << 20
  ) throws(Fault) {
    for token in [bos, eos, pad] {
      guard let token else { continue }
      guard specialTokens.contains(where: { $0.utf8.elementsEqual(token.utf8) }) else {
        throw Fault(
          .configuration, "\(quoted(token)) is not a special token of this tokenizer",
          hint: "special tokens: " + list(specialTokens))
      }
    }
    var config: JSON = [
      "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false,
      "model_max_length": JSON(maxLength),
    ]
    if case .object(var members) = config {
      if let bos { members["bos_token"] = JSON(bos) }
      if let eos { members["eos_token"] = JSON(eos) }
      if let pad { members["pad_token"] = JSON(pad) }
      config = .object(members)
    }
    try FileSystem.makeFolder(folder)
    try FileSystem.replace(
      folder + "/tokenizer.json", with: json(bos: bos).serialized(pretty: true).utf8)
    try FileSystem.replace(
      folder + "/tokenizer_config.json", with: config.serialized(pretty: true).utf8)
  }
}
