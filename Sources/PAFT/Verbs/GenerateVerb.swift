// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTModels
import PAFTText

/// `paft generate`: continues prompts and answers conversations.
package struct GenerateVerb: Sendable {
  package var model: String
  package var adapter: String?
  package var prompts: [String]
  /// A file of conversations, each to be answered by the assistant.
  package var messages: String?
  package var sampling = SamplingOptions()
  package var compute = ComputeOptions()

  package init(model: String, prompts: [String]) {
    self.model = model
    self.prompts = prompts
  }

  package struct Answer: Sendable {
    package let index: Int
    package let prompt: String
    package let text: String
    package let tokens: Int
    /// Whether it answers a conversation, whose text is not worth repeating.
    package let isReply: Bool

    package var json: String {
      let value: JSON = [
        "index": JSON(index), "prompt": .string(prompt), "text": .string(text),
        "tokens": JSON(tokens),
      ]
      return value.serialized()
    }
  }

  package func run() throws(PAFTError) -> (answers: [Answer], seconds: Double) {
    try PAFTError.wrapping {
      let clock = Stopwatch()
      try sampling.check()
      let folder = try ModelFolder(model)
      let tokenizer = try Tokenizer(folder: model)
      var texts = prompts
      var ids = try prompts.map { try tokenizer.encodeOpen($0) }
      if let messages {
        let encoder = try ChatEncoder(tokenizer)
        for conversation in try ConversationFile.read(messages) {
          let chat = try encoder.encode(conversation, addGenerationPrompt: true)
          texts.append(chat.text)
          ids.append(chat.ids)
        }
      }
      let requests = ids
      let batch = min(32, requests.count)
      let longest = requests.reduce(0) { max($0, $1.count) }
      let positions = folder.configuration.maxPositions
      let limit = min(positions, longest + min(sampling.maxTokens, positions))
      let scratch = InferenceScratch.bytes(
        folder, tokens: batch * max(1, longest), logitRows: batch)
      let stops = try StopTokens.of(folder, tokenizer, model: model)
      let generated = try Workbench.run(compute, for: folder, named: "generate", scratch: scratch) {
        executor in
        let base = try BaseModel(
          folder, backward: false, quantizes: compute.quantizes, on: executor)
        let loaded = try LoadedModel(base, adapter: adapter, on: executor)
        var generator = Generator(
          try loaded.decoder(maxTokens: limit, on: executor), loaded.weights,
          sampling: sampling.sampling(), stops: stops)
        generator.batchSize = batch
        return try generator.generate(requests, maxTokens: sampling.maxTokens)
      }
      let answers = try generated.enumerated().map { index, answer in
        Answer(
          index: index, prompt: texts[index],
          text: try tokenizer.decode(answer, skipSpecialTokens: true), tokens: answer.count,
          isReply: index >= prompts.count)
      }
      return (answers, clock.seconds)
    }
  }
}
