// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTModels
import PAFTOps
import PAFTText

/// `paft chat`: a conversation with a model, or with two that answer the same questions, each with
/// its own history.
package struct ChatVerb: Sendable {
  package struct Partner: Sendable {
    package var model: String
    package var adapter: String?

    package init(model: String, adapter: String? = nil) {
      self.model = model
      self.adapter = adapter
    }

    package var name: String {
      FileSystem.lastComponent(model) + (adapter.map { " + " + FileSystem.lastComponent($0) } ?? "")
    }
  }

  /// What the terminal shows, in order.
  package enum Event: Sendable {
    /// Models are loaded; the first line is awaited.
    case ready
    /// What was said to the session, not to the model.
    case notice(String)
    case begins(name: String, side: Int)
    case text(String)
    case ends(Answer)
  }

  package struct Answer: Sendable {
    package let turn: Int
    package let side: Int
    package let model: String
    package let text: String
    package let tokens: Int
    package let seconds: Double
    package let isStopped: Bool

    package var json: String {
      let value: JSON = [
        "turn": JSON(turn), "model": .string(model), "text": .string(text),
        "tokens": JSON(tokens), "seconds": JSON(seconds), "stopped": JSON(isStopped),
      ]
      return value.serialized()
    }
  }

  package var partners: [Partner]
  package var system: String?
  /// Tokens of a whole conversation; at most the model's positions.
  package var context = 8192
  package var sampling = SamplingOptions(maxTokens: 512)
  package var compute = ComputeOptions()

  package init(_ partners: [Partner]) { self.partners = partners }

  package static let help =
    "/reset forgets the conversation, /system TEXT sets the system prompt and does so too, /quit ends"

  /// - Parameters:
  ///   - nextLine: what the person says; nil ends the session.
  ///   - isStopped: asked after every token; true ends the answer, not the session.
  package func run(
    nextLine: @escaping @Sendable () -> String?, isStopped: @escaping @Sendable () -> Bool,
    show: @escaping @Sendable (Event) -> Void
  ) throws(PAFTError) {
    try PAFTError.wrapping {
      try check()
      let folders = try partners.map { try ModelFolder($0.model) }
      let encoders = try partners.map { try ChatEncoder(Tokenizer(folder: $0.model)) }
      let limits = folders.map { min($0.configuration.maxPositions, context) }
      let scratch = zip(folders, limits).reduce(0) {
        max($0, InferenceScratch.bytes($1.0, tokens: $1.1, logitRows: 1))
      }
      try Workbench.run(compute, for: folders[0], named: "chat", scratch: scratch) { executor in
        var bases: [String: BaseModel] = [:]
        var speakers: [Speaker] = []
        for (side, partner) in partners.enumerated() {
          let base =
            try bases[partner.model]
            ?? BaseModel(folders[side], backward: false, on: executor)
          bases[partner.model] = base
          let loaded = try LoadedModel(base, adapter: partner.adapter, on: executor)
          speakers.append(
            Speaker(
              name: partner.name, side: side, encoder: encoders[side], loaded: loaded,
              decoder: try loaded.decoder(maxTokens: limits[side], on: executor),
              stops: try StopTokens.of(
                folders[side], encoders[side].tokenizer, model: partner.model),
              history: Conversation([])))
        }
        try talk(&speakers, nextLine, isStopped, show)
      }
    }
  }

  private func talk(
    _ speakers: inout [Speaker], _ nextLine: () -> String?, _ isStopped: () -> Bool,
    _ show: (Event) -> Void
  ) throws {
    var system = system
    var turn = 0
    func reset() {
      let messages: [JSON] =
        system.map { [["role": "system", "content": .string($0)]] } ?? []
      for side in speakers.indices { speakers[side].history = Conversation(messages) }
    }
    reset()
    show(.ready)
    while let line = nextLine() {
      let words = line.split(separator: " ", maxSplits: 1)
      guard let first = words.first else { continue }
      if first.hasPrefix("/") {
        switch first {
        case "/quit", "/exit": return
        case "/reset":
          reset()
          show(.notice("the conversation begins anew"))
        case "/system":
          system = words.count > 1 ? String(words[1]) : nil
          reset()
          show(.notice(system == nil ? "no system prompt" : "the system prompt is set"))
        case "/help": show(.notice(Self.help))
        default: show(.notice("no command \(quoted(String(first), limit: 40)): \(Self.help)"))
        }
        continue
      }
      turn += 1
      for side in speakers.indices {
        do throws(Fault) {
          try answer(&speakers[side], line, turn, isStopped, show)
        } catch {
          // Too long, or a template that wants other turns: the session goes on without the question.
          guard error.exitCode == .data else { throw error }
          show(.notice("\(speakers[side].name): \(error.message); /reset begins anew"))
        }
      }
    }
  }

  private func answer(
    _ speaker: inout Speaker, _ question: String, _ turn: Int, _ isStopped: () -> Bool,
    _ show: (Event) -> Void
  ) throws(Fault) {
    let asked = speaker.history.followed(by: [["role": "user", "content": .string(question)]])
    let ids = try speaker.encoder.encode(asked, addGenerationPrompt: true).ids
    let clock = Stopwatch()
    var generator = Generator(
      speaker.decoder, speaker.loaded.weights,
      sampling: sampling.sampling(turn: turn - 1), stops: speaker.stops)
    generator.batchSize = 1
    let tokenizer = speaker.encoder.tokenizer
    var stream = IncrementalDecoder(tokenizer)
    var problem: Fault?
    var stopped = false
    show(.begins(name: speaker.name, side: speaker.side))
    var tokens: [Int32] = []
    do {
      tokens = try generator.generate([ids], maxTokens: sampling.maxTokens) { _, id in
        do throws(Fault) {
          let text = try stream.append(id)
          if !text.isEmpty { show(.text(text)) }
        } catch {
          problem = error
          return false
        }
        stopped = isStopped()
        return !stopped
      }[0]
      if let problem { throw problem }
      let rest = try stream.finish()
      if !rest.isEmpty { show(.text(rest)) }
    } catch { throw (error as? Fault) ?? Fault(.unexpected, "\(error)") }
    let text = try tokenizer.decode(tokens, skipSpecialTokens: true)
    speaker.history = asked.followed(by: [["role": "assistant", "content": .string(text)]])
    show(
      .ends(
        Answer(
          turn: turn, side: speaker.side, model: speaker.name, text: text, tokens: tokens.count,
          seconds: clock.seconds, isStopped: stopped)))
  }

  /// A model and what it has heard.
  private struct Speaker {
    let name: String
    let side: Int
    let encoder: ChatEncoder
    let loaded: LoadedModel
    let decoder: Decoder
    let stops: [Int32]
    var history: Conversation
  }

  private func check() throws(Fault) {
    try sampling.check()
    guard context >= 2 else {
      throw Fault(.usage, "--context \(context): expected at least 2")
    }
  }
}
