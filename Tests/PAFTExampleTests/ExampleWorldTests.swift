// SPDX-License-Identifier: Apache-2.0

import PAFTExample
import Testing

@Suite("The example world's data")
struct ExampleWorldTests {
  @Test("The same seed gives the same rows, another seed gives others")
  func deterministic() {
    let corpus = ExampleWorld.corpus(seed: 7, documents: 50)
    #expect(corpus == ExampleWorld.corpus(seed: 7, documents: 50))
    #expect(corpus != ExampleWorld.corpus(seed: 8, documents: 50))
    let rows = ExampleWorld.instructions(seed: 7, count: 50, heldOut: false)
    #expect(rows == ExampleWorld.instructions(seed: 7, count: 50, heldOut: false))
    #expect(rows != ExampleWorld.instructions(seed: 8, count: 50, heldOut: false))
    let pairs = ExampleWorld.preferences(seed: 7, count: 50, heldOut: false)
    #expect(pairs == ExampleWorld.preferences(seed: 7, count: 50, heldOut: false))
    #expect(pairs != ExampleWorld.preferences(seed: 8, count: 50, heldOut: false))
  }

  @Test("A longer data set starts with the shorter one")
  func prefixStable() {
    let long = ExampleWorld.corpus(seed: 3, documents: 40)
    #expect(Array(long.prefix(10)) == ExampleWorld.corpus(seed: 3, documents: 10))
  }

  @Test(
    "Held-out questions are never trained on, by any seed, as instruction or preference or talk")
  func disjoint() {
    var trained: Set<String> = []
    for seed in UInt64(1)...3 {
      trained.formUnion(
        ExampleWorld.instructions(seed: seed, count: 1500, heldOut: false).map(\.prompt))
      trained.formUnion(
        ExampleWorld.preferences(seed: seed, count: 1500, heldOut: false).map(\.prompt))
      for document in ExampleWorld.corpus(seed: seed, documents: 4000)
      where document.hasPrefix("User:") {
        let talk = document.split(separator: "\n")
        #expect(talk.count == 2)
        trained.insert(talk[0] + "\nHelper:")
      }
    }
    for seed in UInt64(1)...3 {
      for row in ExampleWorld.instructions(seed: seed, count: 300, heldOut: true) {
        #expect(!trained.contains(row.prompt), "\(row.prompt)")
      }
      for row in ExampleWorld.preferences(seed: seed, count: 300, heldOut: true) {
        #expect(!trained.contains(row.prompt), "\(row.prompt)")
      }
    }
  }

  @Test("Held-out instructions are all different")
  func heldOutDistinct() {
    let prompts = ExampleWorld.instructions(seed: 1, count: 300, heldOut: true).map(\.prompt)
    #expect(Set(prompts).count == 300)
  }

  @Test("Questions and answers are short")
  func short() {
    for row in ExampleWorld.instructions(seed: 5, count: 2000, heldOut: false) {
      #expect(row.prompt.utf8.count <= 320)
      #expect(row.completion.utf8.count <= 90)
      #expect(row.prompt.hasPrefix("User: ") && row.prompt.hasSuffix("\nHelper:"))
      #expect(row.completion.hasPrefix(" ") && !row.completion.hasSuffix(" "))
    }
  }

  @Test("Sums are right", arguments: [false, true])
  func sums(heldOut: Bool) {
    let rows = ExampleWorld.instructions(seed: 2, count: 600, heldOut: heldOut)
      .filter { $0.task == "sum" }
    #expect(rows.count > 20)
    for row in rows {
      let numbers = row.prompt.split { !$0.isNumber }.compactMap { Int($0) }
      #expect(numbers.count == 2)
      let expected =
        row.prompt.contains(" plus ") ? numbers[0] + numbers[1] : numbers[0] - numbers[1]
      #expect(ExampleWorld.isCorrect("\(expected)", row: row))
    }
  }

  @Test("The older and the younger of two people are who they are")
  func ages() {
    let rows = ExampleWorld.instructions(seed: 2, count: 600, heldOut: false)
      .filter { $0.task == "age" }
    #expect(rows.count > 20)
    for row in rows {
      let words = row.prompt.split { !$0.isLetter && !$0.isNumber }.map(String.init)
      let ages = words.indices.compactMap { at in Int(words[at]).map { (words[at - 2], $0) } }
      #expect(ages.count == 2)
      let oldest = ages[0].1 > ages[1].1 ? ages[0].0 : ages[1].0
      let youngest = ages[0].1 > ages[1].1 ? ages[1].0 : ages[0].0
      let expected = row.prompt.contains("older?") ? oldest : youngest
      #expect(ExampleWorld.isCorrect(expected, row: row))
    }
  }

  @Test("A story holds its answer exactly once")
  func stories() {
    let rows = ExampleWorld.instructions(seed: 2, count: 600, heldOut: true)
      .filter { $0.task == "story" }
    #expect(rows.count > 60)
    for row in rows {
      // Any word of the story may be the answer; exactly one of them is, and it stands once.
      let words = row.prompt.split { !$0.isLetter }.map(String.init)
      #expect(words.count { ExampleWorld.isCorrect($0, row: row) } == 1, "\(row)")
    }
  }

  @Test("Both sides of a preference say the same thing, and only the chosen one courteously")
  func pairs() {
    for row in ExampleWorld.preferences(seed: 4, count: 500, heldOut: false) {
      #expect(ExampleWorld.isPreferredStyle(row.chosen), "\(row.chosen)")
      #expect(!ExampleWorld.isPreferredStyle(row.rejected), "\(row.rejected)")
      let chosen = InstructionRow(prompt: row.prompt, completion: row.chosen, task: "")
      #expect(ExampleWorld.isCorrect(row.rejected, row: chosen))
    }
  }

  @Test("Instructions come in every manner, most of them plain")
  func manners() {
    let rows = ExampleWorld.instructions(seed: 1, count: 1000, heldOut: false)
    let courteous = rows.count { ExampleWorld.isPreferredStyle($0.completion) }
    let plain = rows.count { !$0.completion.contains(". ") && !$0.completion.contains("! ") }
    #expect((70...130).contains(courteous))
    #expect((760...840).contains(plain))
  }

  @Test("Every task is asked, in both splits", arguments: [false, true])
  func allTasks(heldOut: Bool) {
    let rows = ExampleWorld.instructions(seed: 1, count: 300, heldOut: heldOut)
    let counts = Dictionary(grouping: rows, by: \.task).mapValues(\.count)
    #expect(
      Set(counts.keys) == [
        "story", "age", "fact", "opposite", "plural", "kind", "letter", "sum", "list",
      ])
    #expect(counts.values.allSatisfy { $0 >= 3 }, "\(counts)")
  }
}
