// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTTestSupport
import Testing

private func parse(_ text: String) throws -> ConfigNode {
  try ConfigNode.parse(text, source: "c.yaml")
}

private func failure(_ text: String) throws -> ConfigError {
  try #require(throws: ConfigError.self) { try parse(text) }
}

@Suite struct ConfigTests {
  @Test func scalarsMeanWhatTheAskerExpects() throws {
    let node = try parse(
      """
      a: 1e-5
      b: 1E-5
      c: .5
      d: no
      e: off
      f: null
      g: "no"
      h: 5.
      i: +3
      j: 1e3
      k: ~
      l:
      m: "null"
      """)
    #expect(try node["a"]?.double() == 1e-5)
    #expect(try node["b"]?.double() == 1e-5)
    #expect(try node["c"]?.double() == 0.5)
    #expect(try node["d"]?.bool() == false && node["d"]?.string() == "no")
    #expect(try node["e"]?.bool() == false)
    #expect(try node["g"]?.string() == "no")
    #expect(try node["h"]?.double() == 5)
    #expect(try node["i"]?.double() == 3 && node["i"]?.int() == 3)
    #expect(try node["j"]?.int() == 1000)
    for key in ["f", "k", "l"] { #expect(node[key]?.isNull == true) }
    #expect(node["m"]?.isNull == false)
    #expect(node.keys.count == 13 && node["zz"] == nil)
  }

  @Test(arguments: [".nan", ".inf", "nan", "inf", "0x10", "1_000", "1e999", "abc", "1 2", "", "e5"])
  func whatIsNotAFiniteDecimalNumberIsRefused(_ text: String) throws {
    let node = try #require(parse("a: \(text)")["a"])
    #expect(throws: ConfigError.self) { try node.double() }
  }

  @Test func errorsNameFileLineAndPath() throws {
    let node = try parse("a:\n  b: [1, x]\n  c: {d: 1.5}\nmethd: 1\n")
    let list = try #require(node["a"]?["b"]).elements()
    let number = try #require(throws: ConfigError.self) { try list[1].double() }
    #expect(number.message == "c.yaml line 2: a.b[1]: found 'x', expected a number")
    #expect(number.exitCode == .configuration)
    let whole = try #require(throws: ConfigError.self) { try node["a"]?["c"]?["d"]?.int() }
    #expect(whole.line == 3 && whole.path == "a.c.d")
    let unknown = try #require(throws: ConfigError.self) { try node.check(known: ["a", "method"]) }
    #expect(unknown.line == 4 && unknown.hint == "did you mean 'method'?")
    let missing = try #require(throws: ConfigError.self) { try node["a"]?.required("zz") }
    #expect(missing.message.contains("'zz'"))
    #expect(throws: ConfigError.self) { try list[0].int(in: 2...5) }
    #expect(throws: ConfigError.self) { try node["methd"]?.choice(["x", "y"]) }
    #expect(throws: ConfigError.self) { try node.string() }
  }

  @Test func brokenAndHostileTextIsRefusedWithItsLine() throws {
    #expect(try failure("a: 1\nb: 2\na: 3\n").what.contains("duplicate key 'a'"))
    #expect(try failure("a:\n\t- b\n").line == 2)
    #expect(try failure("a: [1, 2\nb: 3\n").what.contains("not YAML"))
    #expect(try failure("a: 1\nb: \u{13}\n").line == 2)
    #expect(try failure("a: *nothing\n").what.contains("not YAML"))
    #expect(try failure("? [x]\n: 1\n").what.contains("not text"))
    _ = try failure(String(repeating: "[", count: 100_000))
    _ = try failure("a: 1\n---\nb: 2\n")
    let nested = (0..<70).map { String(repeating: " ", count: $0) + "a:" }.joined(separator: "\n")
    #expect(try failure(nested + " 1").what.contains("deep"))
  }

  @Test func aliasesWorkAndAliasBombsDoNot() throws {
    #expect(try parse("a: &x [1, 2]\nb: *x\n")["b"]?.elements().count == 2)
    var bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for i in 1...12 {
      bomb += "a\(i): &a\(i) [" + (0..<10).map { _ in "*a\(i - 1)" }.joined(separator: ", ") + "]\n"
    }
    #expect(try failure(bomb).what.contains("more than"))
  }

  @Test func valuesAreSetByTheirPath() throws {
    var node = try parse("merge: {method: ties}\nseed: 1\n")
    try node.set("merge.density", to: "0.3")
    try node.set("merge.method", to: "linear")
    try node.set("sft.l1", to: "{target_sparsity: 0.9}")
    try node.set("seed", to: "7")
    #expect(try node["merge"]?["density"]?.double() == 0.3)
    #expect(try node["merge"]?["method"]?.string() == "linear")
    #expect(try node["sft"]?["l1"]?["target_sparsity"]?.double() == 0.9)
    #expect(node["sft"]?["l1"]?["target_sparsity"]?.path == "sft.l1.target_sparsity")
    #expect(try node["seed"]?.int() == 7)
    #expect(throws: ConfigError.self) { try node.set("seed.x", to: "1") }
    #expect(throws: ConfigError.self) { try node.set("a..b", to: "1") }
    let error = try #require(throws: ConfigError.self) { try node["merge"]?["method"]?.int() }
    #expect(
      error.message
        == "--set merge.method: found 'linear', expected a whole number")
  }

  @Test func theTextOfATreeParsesToTheSameTree() throws {
    let text = """
      model: ./base
      list: [1, "two", -3.5]
      empty: []
      none: null
      nested:
        - name: "yes: no"
          deep: {a: {b: [x, {y: 1}]}}
        - [1, 2]
        - "tab\\t # not a comment"
      "odd: key": "- dash"
      number: -1e-5
      block: |
        two
        lines
      """
    let node = try parse(text)
    let again = try parse(node.serialized())
    #expect(again.serialized() == node.serialized())
    #expect(try again["nested"]?.elements()[0]["deep"]?["a"]?["b"]?.elements()[1]["y"]?.int() == 1)
    #expect(try again["nested"]?.elements()[2].string() == "tab\t # not a comment")
    #expect(try again["odd: key"]?.string() == "- dash")
    #expect(try again["number"]?.double() == -1e-5)
    #expect(try again["block"]?.string() == "two\nlines")
    #expect(again["none"]?.isNull == true && again["empty"]?.isSequence == true)
  }

  @Test func anEmptyFileIsAnEmptyMapping() throws {
    #expect(try parse("").keys.isEmpty && parse("# only a comment\n").isMapping)
  }
}
