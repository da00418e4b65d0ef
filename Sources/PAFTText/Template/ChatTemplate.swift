// SPDX-License-Identifier: Apache-2.0

package import PAFTBase
import PAFTFormats

/// A parsed template.
struct TemplateProgram: Sendable {
  let body: [TemplateStatement]
  let names: [String]
  let ids: [String: Int]
  let file: String
  let loopName: Int?
  let callerName: Int?
}

/// A chat template: a Jinja text that writes messages as the model was trained to read them, with
/// the environment of transformers (white space, functions, filters, `{% generation %}`).
///
/// It comes from anywhere, so it can do nothing but write: no files, no time beyond a count of steps,
/// no memory beyond a count of characters (`TemplateLimits`).
package struct ChatTemplate: Sendable {
  /// The name in messages.
  package let file: String
  /// The template as it was read, to be saved with a model trained with it.
  package let source: String
  /// Whether the template itself says what the assistant wrote.
  package let marksGeneration: Bool
  /// Values that the template knows by name, such as `bos_token`.
  package var variables: [String: JSON] = [:]
  package var limits = TemplateLimits()
  /// nil: templates find no `strftime_now`.
  package var clock: TemplateClock? = .local
  private let program: TemplateProgram

  /// Longer texts are no templates.
  static let sizeLimit = 1 << 20

  /// - Throws: exit code 65, with line, what was found and what was expected.
  package init(_ source: String, file: String) throws(Fault) {
    guard source.utf8.count <= Self.sizeLimit else {
      throw Fault(
        .data,
        "\(file): a template of \(source.utf8.count) bytes, expected at most \(Self.sizeLimit)")
    }
    var parser = try TemplateParser(source, file: file)
    let body = try parser.template()
    self.file = file
    self.source = source
    marksGeneration = parser.marksGeneration
    program = TemplateProgram(
      body: body, names: parser.names,
      ids: Dictionary(uniqueKeysWithValues: parser.names.enumerated().map { ($1, $0) }), file: file,
      loopName: parser.names.firstIndex(of: "loop"),
      callerName: parser.names.firstIndex(of: "caller"))
  }

  /// Roles are names of the format, not text of a user: templates build control tokens of them.
  private static let roles = Dictionary(
    uniqueKeysWithValues: [
      "system", "user", "assistant", "tool", "developer", "function", "model", "ipython",
      "observation",
    ].map { ($0, TemplateText($0)) })
  private static let roleKey = TemplateText("role")
  private static let contentKey = TemplateText("content")

  /// - Parameters:
  ///   - messages: objects as the model's format has them, most with `role` and `content`.
  ///   - tools: JSON schemas; nil: the template sees none.
  /// - Throws: exit code 65: the template's own `raise_exception`, an error in it, or a bound.
  package func render(
    _ messages: [JSON], tools: [JSON]? = nil, addGenerationPrompt: Bool = false
  ) throws(Fault) -> RenderedChat {
    var values: [(String, TemplateValue)] = [
      (
        "messages",
        .list(
          TemplateList(
            messages.enumerated().map {
              Self.message($1, origin: TemplateText.origin(ofItem: $0))
            }))
      ),
      (
        "tools",
        tools.map { tools in
          .list(
            TemplateList(
              tools.map {
                TemplateValue($0, origin: TemplateText.origin(ofItem: messages.count))
              }))
        } ?? .none
      ),
      ("documents", .none),
      ("add_generation_prompt", .bool(addGenerationPrompt)),
    ]
    for (name, value) in variables where program.ids[name] != nil {
      values.append((name, TemplateValue(value, origin: 0)))
    }
    let evaluator = TemplateEvaluator(program, limits: limits, clock: clock)
    return RenderedChat(try evaluator.run(values))
  }

  private static func message(_ json: JSON, origin: UInt32) -> TemplateValue {
    guard case .object(let object) = json else { return TemplateValue(json, origin: origin) }
    var dict = TemplateDict()
    for (key, value) in object {
      // What nearly every message has is made once, not for each.
      if key == "role" {
        let known = value.string.flatMap { roles[$0] }
        dict.set(
          .text(roleKey), at: nil, known.map { .text($0) } ?? TemplateValue(value, origin: origin))
      } else {
        dict.set(
          .text(key == "content" ? contentKey : TemplateText(key, origin: origin)), at: nil,
          TemplateValue(value, origin: origin))
      }
    }
    return .dict(dict)
  }
}

/// A rendered conversation and where its parts come from; ranges count bytes of its UTF-8.
package struct RenderedChat: Sendable {
  package let bytes: [UInt8]
  package var text: String { String(decoding: bytes, as: UTF8.self) }
  /// What messages and tools contributed. Special tokens in there are text, not control.
  package let dataRanges: [Range<Int>]
  /// What the template marked with `{% generation %}`.
  package let generationRanges: [Range<Int>]
  /// What came from each message, by its place in the list (modulo 1023).
  package let origins: [(range: Range<Int>, message: Int)]

  init(_ text: TemplateText) {
    var data: [Range<Int>] = []
    var generated: [Range<Int>] = []
    var origins: [(range: Range<Int>, message: Int)] = []
    func extend(_ ranges: inout [Range<Int>], _ range: Range<Int>) {
      if let last = ranges.last, last.upperBound == range.lowerBound {
        ranges[ranges.count - 1] = last.lowerBound..<range.upperBound
      } else {
        ranges.append(range)
      }
    }
    bytes = [UInt8](unsafeUninitializedCapacity: 4 * text.count) { bytes, end in
      text.units.withUnsafeBufferPointer { units in
        var at = 0
        end = 0
        while at < units.count {
          let start = end
          let note = units[at] & ~TemplateText.scalarMask
          while at < units.count, units[at] & ~TemplateText.scalarMask == note {
            let ascii = Self.narrow(units, at, note, to: bytes, at: end)
            if ascii > 0 {
              at += ascii
              end += ascii
              continue
            }
            end = Self.write(units[at] & TemplateText.scalarMask, to: bytes, at: end)
            at += 1
          }
          let range = start..<end
          if note & TemplateText.generated != 0 { extend(&generated, range) }
          let origin = Int((note & TemplateText.originMask) >> TemplateText.originShift)
          guard origin > 0 else { continue }
          extend(&data, range)
          if let last = origins.last, last.message == origin - 1, last.range.upperBound == start {
            origins[origins.count - 1].range = last.range.lowerBound..<end
          } else {
            origins.append((range, origin - 1))
          }
        }
      }
    }
    dataRanges = data
    generationRanges = generated
    self.origins = origins
  }

  /// Copies ASCII with this note, sixteen at a time; gives how many that were.
  @inline(__always)
  private static func narrow(
    _ units: UnsafeBufferPointer<UInt32>, _ start: Int, _ note: UInt32,
    to bytes: UnsafeMutableBufferPointer<UInt8>, at end: Int
  ) -> Int {
    var done = 0
    while start + done + 16 <= units.count {
      let block = UnsafeRawPointer(units.baseAddress! + start + done)
        .loadUnaligned(as: SIMD16<UInt32>.self)
      let other = (block ^ SIMD16(repeating: note)) & SIMD16(repeating: ~0x7F)
      if other != SIMD16(repeating: 0) { break }
      UnsafeMutableRawPointer(bytes.baseAddress! + end + done)
        .storeBytes(of: SIMD16<UInt8>(truncatingIfNeeded: block), as: SIMD16<UInt8>.self)
      done += 16
    }
    return done
  }

  /// Writes a scalar as UTF-8, what is none as U+FFFD; gives the place behind it.
  @inline(__always)
  private static func write(
    _ value: UInt32, to bytes: UnsafeMutableBufferPointer<UInt8>, at: Int
  ) -> Int {
    if value < 0x80 {
      bytes[at] = UInt8(truncatingIfNeeded: value)
      return at + 1
    }
    var at = at
    for byte in UTF8.encode(TemplateText.scalar(value)) ?? UTF8.encodedReplacementCharacter {
      bytes[at] = byte
      at += 1
    }
    return at
  }
}
