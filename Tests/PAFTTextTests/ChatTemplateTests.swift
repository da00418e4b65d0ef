// SPDX-License-Identifier: Apache-2.0

import Glibc
import PAFTBase
import PAFTFormats
import PAFTTestSupport
import PAFTText
import Testing

/// Templates against jinja2 in transformers' environment.
@Suite struct ChatTemplateTests {
  static let templates = TestData.shared("chat_templates")

  /// The template that a case of golden.json names: a file, a member of a JSON file, or the case's own.
  private static func source(_ row: JSON, _ folder: String) throws -> String {
    if let text = row["template_text"]?.string { return text }
    let name = try #require(row["template"]?.string)
    let parts = name.split(separator: "#").map(String.init)
    let path =
      parts[0].hasPrefix("tokenizers/") ? folder + "/../" + parts[0] : folder + "/" + parts[0]
    if parts.count == 1 { return String(decoding: try FileSystem.read(path), as: UTF8.self) }
    return try #require(try JSON.read(path: path)[parts[1]]?.string)
  }

  @Test(.enabled(if: templates != nil, noSharedData))
  func everyGoldenConversationIsRenderedByteForByte() throws {
    let folder = try #require(Self.templates)
    let golden = try JSON.read(path: folder + "/golden.json")
    var cases = 0
    for row in try #require(golden["templates"]?.array) {
      let name = try #require(row["template"]?.string)
      var template = try ChatTemplate(try Self.source(row, folder), file: name)
      template.variables = ["bos_token": row["bos_token"]!, "eos_token": row["eos_token"]!]
      template.clock = nil
      for example in try #require(row["cases"]?.array) {
        let messages = try #require(example["messages"]?.array)
        let prompts = example["add_generation_prompt"]?.bool ?? false
        cases += 1
        if let error = example["error"]?.string {
          let raised = fault { _ = try template.render(messages, addGenerationPrompt: prompts) }
          let words = error.split(separator: ": ", maxSplits: 1)[1]
          let message = try #require(raised?.message, "\(name)")
          #expect(message.hasPrefix(name + " line "))
          #expect(message.hasSuffix(": the template raises: " + words), "\(message)")
          #expect(raised?.exitCode == .data)
        } else {
          let text = try template.render(messages, addGenerationPrompt: prompts).text
          let wanted = try #require(example["output"]?.string)
          #expect(sameBytes(text, wanted), "\(name)")
        }
      }
    }
    #expect(cases > 100)
  }

  @Test func snippetsWriteWhatJinjaWrites() throws {
    let data = try fixture("templates.json")
    let messages = try #require(data["messages"]?.array)
    for row in try #require(data["snippets"]?.array) {
      let source = try #require(row["template"]?.string)
      var found: String?
      let error = fault {
        var template = try ChatTemplate(source, file: "t")
        template.variables = ["bos_token": "<s>", "eos_token": "</s>"]
        found = try template.render(messages).text
      }
      if let wanted = row["output"]?.string {
        #expect(error == nil, "\(source): \(error?.message ?? "")")
        #expect(
          sameBytes(found ?? "", wanted), "\(source)\n found \(found ?? "")\nwanted \(wanted)")
      } else {
        #expect(error?.message.hasPrefix("t line 1: ") == true, "\(source) → \(found ?? "")")
      }
    }
  }

  @Test(.enabled(if: templates != nil, noSharedData))
  func toolsReasoningAndGenerationRangesAreThoseOfTransformers() throws {
    let folder = try #require(Self.templates)
    let data = try fixture("templates.json")
    var marked = 0
    for row in try #require(data["rendered"]?.array) {
      let name = try #require(row["template"]?.string)
      let kind = try #require(row["name"]?.string)
      let conversation = try #require(data["conversations"]?[kind])
      let place: Comment = "\(name), \(kind)"
      var template = try ChatTemplate(
        String(decoding: try FileSystem.read(folder + "/" + name), as: UTF8.self), file: name)
      template.variables = ["bos_token": "<s>", "eos_token": "</s>"]
      template.clock = nil
      var chat: RenderedChat?
      let error = fault {
        chat = try template.render(
          conversation["messages"]!.array!, tools: conversation["tools"]?.array)
      }
      guard let wanted = row["output"]?.string else {
        #expect(error != nil, place)
        continue
      }
      #expect(error == nil, "\(place): \(error?.message ?? "")")
      guard let chat else { continue }
      #expect(sameBytes(chat.text, wanted), place)
      guard let ranges = row["generation"]?.array else { continue }
      marked += 1
      #expect(template.marksGeneration)
      let scalars = Array(wanted.unicodeScalars)
      func bytes(_ count: Int) -> Int { scalars[..<count].reduce(0) { $0 + UTF8.width($1) } }
      let expected = ranges.map { bytes($0[0]!.int!)..<bytes($0[1]!.int!) }
      #expect(chat.generationRanges == expected, place)
    }
    #expect(marked >= 20)
  }

  @Test func whatMessagesHoldIsKnownInTheText() throws {
    let template = try ChatTemplate(
      "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim | upper }}<e>{{ m | tojson }}{% endfor %}",
      file: "t")
    let chat = try template.render([["role": "user", "content": " a<e>é ", "<e>": "b"]])
    let parts = chat.dataRanges.map { String(decoding: chat.bytes[$0], as: UTF8.self) }
    // The names that every message has are no more than the template's own text.
    #expect(parts == ["A<E>É", " a<e>é ", "<e>", "b"])
  }

  @Test func theDateIsThatOfTheClock() throws {
    var template = try ChatTemplate("{{ strftime_now('%d %b %Y') }}", file: "t")
    template.clock = TemplateClock {
      var time = tm()
      (time.tm_mday, time.tm_mon, time.tm_year) = (5, 6, 124)
      return time
    }
    #expect(try template.render([]).text == "05 Jul 2024")
  }
}
