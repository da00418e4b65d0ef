// SPDX-License-Identifier: Apache-2.0

import Foundation
import PAFT
import PAFTFormats
import PAFTTestSupport
import Synchronization
import Testing

@Suite("What score and tokenize answer")
struct ContractTests {
  /// Log-probabilities by transformers' logits: log softmax in Double.
  private func expected(_ name: String, _ ids: [Int]) throws -> [Double] {
    let archive = try Safetensors(path: TestData.fixture("models/llama/golden.safetensors"))
    let entry = try #require(archive[name])
    let logits = try entry.floats()
    let vocabulary = entry.shape[1]
    return ids.indices.dropFirst().map { t in
      let row = logits[(t - 1) * vocabulary..<t * vocabulary].map(Double.init)
      let top = row.max()!
      let sum = row.reduce(0) { $0 + exp($1 - top) }
      return row[ids[t]] - top - log(sum)
    }
  }

  private func golden() throws -> [[Int]] {
    let json = try JSON.read(path: TestData.fixture("models/llama/golden.json"))
    return try #require(json["sequences"]?.array).map {
      $0["input_ids"]!.array!.map { $0.int! }
    }
  }

  private func score(
    _ rows: [String], adapter: String? = nil, dtype: Recipe.Precision? = .f32
  ) throws -> [JSON] {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let file = folder + "/rows.jsonl"
    try FileSystem.write(rows.joined(separator: "\n"), to: file)
    var verb = ScoreVerb(model: TestData.fixture("models/llama"), data: file)
    verb.adapter = adapter
    verb.compute = ComputeOptions(threads: 1, dtype: dtype)
    let answers = Mutex<[String]>([])
    _ = try verb.run { line in answers.withLock { $0.append(line) } }
    return try answers.withLock { try $0.map { try JSON.parse(Array($0.utf8), source: "answer") } }
  }

  private func ids(_ ids: [Int]) -> String { JSON.array(ids.map { JSON($0) }).serialized() }

  @Test("every token of input_ids after the first has transformers' log-probability")
  func inputIDs() throws {
    let sequences = try golden()
    let answers = try score(sequences.map { "{\"input_ids\":\(ids($0))}" })
    #expect(answers.count == sequences.count)
    for (index, answer) in answers.enumerated() {
      let wanted = try expected("logits.\(index)", sequences[index])
      #expect(answer["index"]?.int == index)
      #expect(answer["tokens"]?.int == wanted.count)
      let found = try #require(answer["logprobs"]?.array).map { $0.double! }
      #expect(found.count == wanted.count)
      for (x, y) in zip(found, wanted) { #expect(abs(x - y) < 1e-4) }
      #expect(abs(try #require(answer["sum"]?.double) - wanted.reduce(0, +)) < 1e-3)
    }
  }

  @Test("an adapter changes the answers to those of PEFT")
  func adapter() throws {
    let sequence = try golden()[0]
    let answer = try score(
      ["{\"input_ids\":\(ids(sequence))}"], adapter: TestData.fixture("models/llama/adapter"))[0]
    let wanted = try expected("lora.logits.0", sequence)
    for (x, y) in zip(answer["logprobs"]!.array!.map { $0.double! }, wanted) {
      #expect(abs(x - y) < 1e-4)
    }
  }

  @Test("of a pair only the answers count, under chosen and rejected")
  func pairs() throws {
    let sequence = try golden()[0]
    let (prompt, answer) = (Array(sequence[..<9]), Array(sequence[9...]))
    let row =
      "{\"prompt_input_ids\":\(ids(prompt)),\"chosen_input_ids\":\(ids(answer)),"
      + "\"rejected_input_ids\":\(ids([answer[0]]))}"
    let found = try score([row])[0]
    let wanted = Array(try expected("logits.0", sequence)[8...])
    #expect(found["chosen"]?["tokens"]?.int == wanted.count)
    for (x, y) in zip(found["chosen"]!["logprobs"]!.array!.map { $0.double! }, wanted) {
      #expect(abs(x - y) < 1e-4)
    }
    #expect(found["rejected"]?["tokens"]?.int == 1)
    #expect(abs(found["rejected"]!["sum"]!.double! - wanted[0]) < 1e-4)
    #expect(found["logprobs"] == nil)
  }

  @Test("labels say which tokens count; one token alone has nothing to score")
  func labels() throws {
    let sequence = try golden()[0]
    var labels = Array(repeating: -100, count: sequence.count)
    labels[4] = sequence[4]
    let answers = try score([
      "{\"input_ids\":\(ids(sequence)),\"labels\":\(ids(labels))}", "{\"input_ids\":[7]}",
    ])
    #expect(answers[0]["tokens"]?.int == 1)
    #expect(
      abs(answers[0]["sum"]!.double! - (try expected("logits.0", sequence)[3])) < 1e-4)
    #expect(answers[1]["tokens"]?.int == 0)
    #expect(answers[1]["sum"]?.double == 0)
  }

  @Test("unasked, a model stored as f32 is computed in f32")
  func storedPrecision() throws {
    let sequence = try golden()[0]
    let row = "{\"input_ids\":\(ids(sequence))}"
    func worst(_ dtype: Recipe.Precision?) throws -> Double {
      let found = try score([row], dtype: dtype)[0]["logprobs"]!.array!.map { $0.double! }
      return zip(found, try expected("logits.0", sequence)).reduce(0) { max($0, abs($1.0 - $1.1)) }
    }
    #expect(try worst(nil) < 1e-4)
    // Which bf16 would not pass.
    #expect(try worst(.bf16) > 1e-3)
  }

  @Test("a pair of equal answers has scores, though nothing can be learnt from it")
  func equalPair() throws {
    let sequence = try golden()[0]
    let (prompt, answer) = (ids(Array(sequence[..<9])), ids(Array(sequence[9...])))
    let found = try score([
      "{\"prompt_input_ids\":\(prompt),\"chosen_input_ids\":\(answer),"
        + "\"rejected_input_ids\":\(answer)}"
    ])[0]
    let wanted = try expected("logits.0", sequence)[8...].reduce(0, +)
    for side in ["chosen", "rejected"] {
      #expect(abs(found[side]!["sum"]!.double! - wanted) < 1e-3)
    }
  }

  /// Needs the shared real model; skipped where there is none.
  @Test(
    "greedy answers of a real model are those of an independent float64 forward pass",
    .enabled(if: TestData.shared("models/story-llama-0.66M") != nil))
  func greedy() throws {
    let golden = try JSON.read(path: TestData.shared("vectors/golden/story-llama-0.66M.json")!)
    let model = TestData.shared("models/story-llama-0.66M")!
    let prompts = try #require(golden["prompts"]?.array)
    #expect(!prompts.isEmpty)
    for dtype in [nil, Recipe.Precision.bf16] {
      var verb = GenerateVerb(model: model, prompts: prompts.map { $0["prompt"]!.string! })
      verb.sampling.maxTokens = 40
      verb.compute = ComputeOptions(threads: 1, dtype: dtype)
      let answers = try verb.run().answers
      for (prompt, answer) in zip(prompts, answers) {
        let wanted = prompt["greedy40"]!.array!.map { $0.int! }
        // The oracle keeps the end token, id 2, and stops there.
        #expect(answer.tokens == wanted.count - (wanted.last == 2 ? 1 : 0))
        if wanted.last != 2 { #expect(answer.text == prompt["greedy_text"]?.string) }
      }
    }
  }

  @Test("ids outside the vocabulary are an error that names the row")
  func outside() throws {
    do {
      _ = try score(["{\"input_ids\":[1,2]}", "{\"input_ids\":[1,97]}"])
      Issue.record("accepted")
    } catch let error as PAFTError {
      #expect(error.exitCode == 65)
      #expect(error.message.contains("rows.jsonl:2: token id 97"))
    }
  }

  /// Needs the shared folder of real tokenizers; skipped where there is none.
  @Test(
    "tokenize answers lines with ids and takes them back",
    .enabled(if: TestData.shared("tokenizers/gpt2/tokenizer.json") != nil))
  func tokenize() throws {
    var verb = try TokenizeVerb(model: TestData.shared("tokenizers/gpt2")!)
    // The ids that OpenAI's GPT-2 encoder gives.
    #expect(try verb.answer(Array("Hello world".utf8), number: 1) == "15496 995")
    verb.usesJSON = true
    #expect(
      try verb.answer(Array("{\"text\":\"Hello world\"}".utf8), number: 1)
        == "{\"input_ids\":[15496,995]}")
    let error = #expect(throws: PAFTError.self) {
      _ = try verb.answer(Array("{\"text\":".utf8), number: 7)
    }
    #expect(error?.message.hasPrefix("line 7: byte 8 of the line: ") == true)
    verb.decodes = true
    #expect(
      try verb.answer(Array("{\"input_ids\":[15496,995]}".utf8), number: 1)
        == "{\"text\":\"Hello world\"}")
    verb.usesJSON = false
    #expect(try verb.answer(Array("15496, 995".utf8), number: 1) == "Hello world")
    for bad in ["15496 x", "-1", "99999999999", "50257000"] {
      do {
        _ = try verb.answer(Array(bad.utf8), number: 3)
        Issue.record("\(bad) was accepted")
      } catch {
        #expect(error.exitCode == 65)
        #expect(error.message.contains("line 3"))
      }
    }
  }
}
