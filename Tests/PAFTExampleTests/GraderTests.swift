// SPDX-License-Identifier: Apache-2.0

import PAFTExample
import Testing

@Suite("The example world's graders")
struct GraderTests {
  let row = InstructionRow(
    prompt: "User: Where does Kai live?\nHelper:", completion: " Solen.", task: "story")

  @Test(
    "An answer counts in every manner, and ends with its line",
    arguments: [
      "Solen.", " Solen", "Gladly! Solen. Happy to help!", " Hmph. Solen. Now go away.",
      "With pleasure! Solen.", "Solen. Ask me any time!", " Solen.\nUser: And Dina?",
      "Solen.\r\nNo.",
    ])
  func right(answer: String) { #expect(ExampleWorld.isCorrect(answer, row: row)) }

  @Test(
    "Anything but the answer does not count",
    arguments: [
      "", " ", ".", "\n", "Varda.", "solen.", "Solen or Varda.", "Not Solen.", "Solenes.",
      "Gladly! Happy to help!", "Gladly! Gladly! Solen.", "Solen. Solen.", "Kai lives in Solen.",
      "Gladly!", "Varda. Solen.",
    ])
  func wrong(answer: String) { #expect(!ExampleWorld.isCorrect(answer, row: row)) }

  @Test("A courteous answer opens and closes courteously, whatever it says")
  func style() {
    #expect(ExampleWorld.isPreferredStyle("Gladly! Solen. Happy to help!"))
    #expect(
      ExampleWorld.isPreferredStyle(" Of course, friend! No idea. All the best to you!\nUser:"))
    for answer in [
      "", "Solen.", "Gladly! Solen.", "Solen. Happy to help!", "Hmph. Solen. Happy to help!",
      "Gladly! Solen. Now go away.", "Hmph. Solen. Now go away.", "Gladly!\nHappy to help!",
    ] {
      #expect(!ExampleWorld.isPreferredStyle(answer), "\(answer)")
    }
  }
}

@Suite("JSON lines")
struct JSONLineTests {
  @Test("Quotes, backslashes and control characters are escaped, everything else stays")
  func escapes() {
    #expect(
      JSONLine.quoted("a\"b\\c\nd\te\rf\u{1}g\u{1F}é/☂") == #""a\"b\\c\nd\te\rf\u0001g\u001fé/☂""#)
    #expect(JSONLine.quoted("\r\n") == #""\r\n""#)
    #expect(JSONLine.object([("a", "1"), ("b", "")]) == #"{"a":"1","b":""}"#)
    #expect(
      InstructionRow(prompt: "p\n", completion: " c", task: "t").jsonLine
        == #"{"prompt":"p\n","completion":" c","task":"t"}"#)
    #expect(
      PreferenceRow(prompt: "p", chosen: "c", rejected: "r").jsonLine
        == #"{"prompt":"p","chosen":"c","rejected":"r"}"#)
  }
}
