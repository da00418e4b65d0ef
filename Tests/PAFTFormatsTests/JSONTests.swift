// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

private func reason(_ text: String, _ limits: JSONLimits = JSONLimits()) -> JSONError.Reason? {
  do throws(JSONError) {
    _ = try JSON.parse(text, limits: limits)
    return nil
  } catch { return error.reason }
}

private func reason(_ bytes: [UInt8]) -> JSONError.Reason? {
  do throws(JSONError) {
    _ = try JSON.parse(bytes, source: "bytes")
    return nil
  } catch { return error.reason }
}

@Suite struct JSONTests {
  @Test func everyKindOfValueParses() throws {
    let json = try JSON.parse(
      #" {"a": [1, -2, 0, 2.5, 1e3, -1.5E-2], "b": {"c": null}, "d": true, "e": false, "": "x"} "#)
    #expect(json["a"] == [1, -2, 0, 2.5, .number(1000), .number(-0.015)])
    #expect(json["b"]?["c"]?.isNull == true)
    #expect(json["d"]?.bool == true && json["e"]?.bool == false)
    #expect(json[""]?.string == "x")
    #expect(json.object?.keys == ["a", "b", "d", "e", ""])
    #expect(json["a"]?[4]?.int == 1000 && json["a"]?[3]?.int == nil && json["a"]?[9] == nil)
  }

  @Test func integersKeepAllTheirBitsAndLargerOnesBecomeDoubles() throws {
    #expect(try JSON.parse("9223372036854775807") == .integer(.max))
    #expect(try JSON.parse("-9223372036854775808") == .integer(.min))
    #expect(try JSON.parse("9223372036854775808") == .number(0x1p63))
    #expect(try JSON.parse("-9223372036854775809") == .number(-0x1p63))
    #expect(try JSON.parse("1000000000000000019884624838656").double == 1e30)
    #expect(try JSON.parse("0.1").double == 0.1)
    #expect(try JSON.parse("5e-324").double == .leastNonzeroMagnitude)
  }

  @Test(arguments: [
    "01", "-", "+1", "1.", ".5", "1e", "1e+", "0x10", "NaN", "Infinity", "-Infinity", "1e999",
    "tru",
    "nul", "'a'", "{a:1}", "[1,]", "[,1]", "{\"a\":1,}", "{\"a\" 1}", "[1 2]", "[", "{", "\"",
    "\"\\",
    "\"\\x\"", "\"\\u12\"", "\"\\u12G4\"", "\"a\nb\"", "1 2", "{}{}", "", "  ", "]", "// c\n1",
    "\u{0}",
  ])
  func malformedTextIsRefused(_ text: String) { #expect(reason(text) != nil) }

  @Test func eachMistakeHasItsOwnReason() {
    #expect(reason("") == .empty)
    #expect(reason([0xEF, 0xBB, 0xBF, 0x31]) == .byteOrderMark)
    #expect(reason("[1") == .endOfInput(expected: "',' or ']'"))
    #expect(reason("{} x") == .trailing(found: "'x'"))
    #expect(reason([0x22, 0x61, 0xFF, 0x22]) == .notUTF8)
    #expect(reason([0x22, 0xC0, 0x80, 0x22]) == .notUTF8)
    #expect(reason([0x22, 0xED, 0xA0, 0x80, 0x22]) == .notUTF8)
    #expect(reason("\"\u{1}\"") == .controlCharacter(1))
    #expect(reason(#""\q""#) == .badEscape)
    #expect(reason(#""\ud800""#) == .loneSurrogate)
    #expect(reason(#""\ud800A""#) == .loneSurrogate)
    #expect(reason(#""\udc00""#) == .loneSurrogate)
    #expect(reason("[01]") == .badNumber)
    #expect(reason("1e400") == .numberTooLarge)
    #expect(reason(#"{"a":1,"b":2,"a":3}"#) == .duplicateKey("a"))
    #expect(reason(#"{"a":1,"\u0061":3}"#) == .duplicateKey("a"))
    #expect(reason("[1,2,3]", JSONLimits(values: 3)) == .tooManyValues(limit: 3))
    #expect(reason("[NaN]") == .unexpected(found: "'NaN'", expected: "a value"))
  }

  @Test func duplicateKeysAreFoundInLargeObjectsToo() {
    let members = (0..<1000).map { "\"k\($0)\":\($0)" }.joined(separator: ",")
    #expect(reason("{\(members)}") == nil)
    #expect(reason("{\(members),\"k500\":0}") == .duplicateKey("k500"))
  }

  @Test func theErrorSaysLineAndByte() throws {
    let error = try #require(throws: JSONError.self) {
      try JSON.parse("{\n  \"a\": 1,\n  \"b\": oops\n}", source: "x.json")
    }
    #expect(error.line == 3 && error.offset == 19)
    #expect(error.message == "x.json line 3, byte 19: found 'oops', expected a value")
    #expect(error.exitCode == .data)
  }

  @Test func depthIsBounded() {
    let deep = { (n: Int) in String(repeating: "[", count: n) + String(repeating: "]", count: n) }
    #expect(reason(deep(256)) == nil)
    #expect(reason(deep(257)) == .tooDeep(limit: 256))
    #expect(reason(String(repeating: "[", count: 1_000_000)) == .tooDeep(limit: 256))
    #expect(reason(String(repeating: "{\"a\":", count: 1_000_000)) == .tooDeep(limit: 256))
  }

  /// A vocabulary holds both spellings of é; Swift's string equality would merge them.
  @Test func keysAreComparedByteForByte() throws {
    for padding in [0, 20] {
      let extra = (0..<padding).map { ",\"p\($0)\":0" }.joined()
      let json = try JSON.parse("{\"\u{E9}\":1,\"e\u{301}\":2\(extra)}")
      #expect(json["\u{E9}"]?.int == 1)
      #expect(json["e\u{301}"]?.int == 2)
    }
    #expect(JSON.string("\u{E9}") != JSON.string("e\u{301}"))
  }

  @Test func escapesDecode() throws {
    let json = try JSON.parse(#""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\u0000x""#)
    #expect(json.string == "\"\\/\u{8}\u{C}\n\r\t\u{E9}\u{1F600}\u{0}x")
  }

  @Test func whatIsWrittenReadsBackEqual() throws {
    let random = CounterRandom(seed: 11)
    var counter: UInt64 = 0
    func draw(_ bound: Int) -> Int {
      counter += 1
      return random.integer(counter, below: bound)
    }
    func text() -> String {
      let alphabet: [Character] = ["a", "\"", "\\", "\n", "\u{1}", "é", "😀", "\u{7F}", "/", " "]
      return String((0..<draw(6)).map { _ in alphabet[draw(alphabet.count)] })
    }
    func value(_ depth: Int) -> JSON {
      switch draw(depth > 3 ? 5 : 7) {
      case 0: return .null
      case 1: return .bool(draw(2) == 0)
      case 2: return .integer(Int64(bitPattern: random.bits(counter)))
      case 3:
        let number = Double(bitPattern: random.bits(counter &+ 1 << 40))
        return .number(number.isFinite ? number : 0.5)
      case 4: return .string(text())
      case 5: return .array((0..<draw(5)).map { _ in value(depth + 1) })
      default:
        var object = JSONObject()
        for _ in 0..<draw(12) { object[text()] = value(depth + 1) }
        return .object(object)
      }
    }
    for _ in 0..<500 {
      let original = value(0)
      #expect(try JSON.parse(original.serialized()) == original)
      #expect(try JSON.parse(original.serialized(pretty: true)) == original)
    }
  }

  @Test func prettyTextLooksLikeAPersonWroteIt() {
    let json: JSON = ["name": "x", "shape": [1, 2], "list": [["a": nil]], "none": [:]]
    #expect(
      json.serialized(pretty: true) == """
        {
          "name": "x",
          "shape": [1, 2],
          "list": [
            {
              "a": null
            }
          ],
          "none": {}
        }
        """)
    #expect(json.serialized() == #"{"name":"x","shape":[1,2],"list":[{"a":null}],"none":{}}"#)
    #expect(JSON.array([.number(.nan), .number(1e-5), 1]).serialized() == "[null,1e-05,1]")
  }

  @Test func membersCanBeSetAndRemovedAtAnySize() {
    var object = JSONObject()
    for i in 0..<30 { object["k\(i)"] = JSON(i) }
    object["k3"] = nil
    object["k29"] = "new"
    #expect(object.count == 29 && object["k3"] == nil && object["k29"] == "new")
    #expect(object["k28"] == 28 && object.keys.first == "k0")
    #expect(!object.insertNew("k0", 1) && object.insertNew("k3", 1))
  }

  /// Cut and bent texts: any outcome but a crash.
  @Test func damagedTextNeverTraps() {
    let text = Array(#"{"a":[1,2.5e3,"\u00e9\n",null],"b":{"c":true}}"#.utf8)
    let random = CounterRandom(seed: 3)
    for length in 0...text.count { _ = reason(Array(text[..<length])) }
    for round in 0..<20_000 {
      var bent = text
      for k in 0..<3 {
        let draw = random.bits(UInt64(round * 3 + k))
        bent[Int(draw % UInt64(bent.count))] = UInt8(truncatingIfNeeded: draw >> 32)
      }
      _ = reason(bent)
    }
  }

  // Skips where the shared data folder is absent.
  @Test(.enabled(if: TestData.shared("tokenizers") != nil))
  func aRealTokenizerParsesInAFractionOfASecond() throws {
    let folder = try #require(TestData.shared("tokenizers"))
    var best: (path: String, size: Int)?
    for name in try FileSystem.list(folder) {
      let path = "\(folder)/\(name)/tokenizer.json"
      if FileSystem.exists(path), let size = try? FileSystem.size(path), size > best?.size ?? 0 {
        best = (path, size)
      }
    }
    let found = try #require(best)
    var json = JSON.null
    func clock() -> Double {
      var time = timespec()
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
      return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }
    // CPU time, since other tests share the cores; the best of five, since caches are cold at first.
    var seconds = Double.infinity
    for _ in 0..<5 {
      let start = clock()
      json = try JSON.read(path: found.path)
      seconds = min(seconds, clock() - start)
    }
    #expect(json["model"]?["vocab"] != nil)
    let megabytes = Double(found.size) / 1e6
    print("tokenizer.json: \(megabytes) MB in \(seconds * 1000) ms")
    #expect(seconds < 0.05 * megabytes + 0.02)
  }
}
