// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTModels
import Testing

@Suite("What prompts begin with alike")
struct PromptTreeTests {
  private func tree(_ rows: [[Int32]], window: Int) -> PromptTree {
    PromptTree(rows: rows.count, window: window) {
      rows[$0].count
    } token: {
      rows[$0][$1]
    }
  }

  /// What a pass computes: every sequence with all before it, and which row it ends, if one.
  private func walk(_ tree: PromptTree, _ rows: [[Int32]], _ pass: [Int32]) -> [(
    tokens: [Int32], own: Int, row: Int32?
  )] {
    var sequences: [(tokens: [Int32], own: Int, row: Int32?)] = []
    pass.withUnsafeBufferPointer {
      tree.walk($0) { beginning, parent in
        let before = parent.map { sequences[$0].tokens } ?? []
        #expect(before.count == beginning.from)
        sequences.append((before + beginning.ids, beginning.ids.count, nil))
        return sequences.count - 1
      } row: { row, from, parent in
        let before = parent.map { sequences[$0].tokens } ?? []
        #expect(before.count == from)
        let ids = rows[Int(row)]
        sequences.append((before + ids.dropFirst(from), ids.count - from, row))
      }
    }
    return sequences
  }

  private func ids(_ count: Int, _ salt: Int) -> [Int32] {
    (0..<count).map { Int32(salt * 1000 + $0) }
  }

  @Test("a head of all, a system prompt of some, a question asked twice: by hand")
  func byHand() {
    let (head, system, question) = (ids(20, 1), ids(30, 2), ids(16, 3))
    let rows = [
      head + system + question + ids(3, 4), head + ids(5, 5), head + system + ids(2, 6),
      head + system + question,
    ]
    let tree = tree(rows, window: 4)
    #expect(tree.beginnings.map(\.ids) == [head, system, question])
    #expect(tree.beginnings.map(\.parent) == [nil, 0, 1])
    #expect(tree.beginnings.map(\.from) == [0, 20, 50])
    #expect((0..<4).map(tree.cuts) == [[66, 50, 20], [20], [50, 20], [66, 50, 20]])
    let pass = walk(tree, rows, [2, 1, 3])
    #expect(pass.map(\.own) == [20, 30, 2, 5, 16, 0])
    #expect(pass.map(\.row) == [nil, nil, 2, 1, nil, 3])
    func common(_ window: [Int32]) -> Int { window.withUnsafeBufferPointer(tree.common) }
    #expect(common([0, 1, 2, 3]) == 20)
    #expect(common([3, 2]) == 50)
    #expect(common([0, 3, 0]) == 66)
    #expect(common([0]) == 0 && common([]) == 0)
  }

  @Test("what is too short, or too rare to meet in a step, is not cut off")
  func least() {
    let short = (0..<8).map { ids(15, 1) + ids(4, 2 + $0) }
    #expect(tree(short, window: 8).beginnings.isEmpty)
    // Three of twelve rows: a step of eight has two of them, one of seven fewer.
    let rare = (0..<12).map { $0 < 3 ? ids(16, 1) + ids(4, 2 + $0) : ids(20, 20 + $0) }
    #expect(tree(rare, window: 8).beginnings.count == 1)
    #expect(tree(rare, window: 7).beginnings.isEmpty)
    #expect(tree([], window: 8).beginnings.isEmpty)
    #expect(tree([ids(20, 1)], window: 1).beginnings.isEmpty)
    // A fork after a few tokens is no cut, but what both sides then have is.
    let fork = (0..<4).map { ids(3, 1) + ids(16, 2 + $0 / 2) }
    #expect(tree(fork, window: 4).beginnings.map(\.from) == [0, 0])
    #expect(tree(fork, window: 4).beginnings.map(\.ids.count) == [19, 19])
  }

  @Test("every pass holds every row whole and shared tokens once, whatever rows it has")
  func random() {
    let random = CounterRandom(seed: 5).stream("prompts")
    var next: UInt64 = 0
    func integer(_ bound: Int) -> Int {
      next += 1
      return random.integer(next, below: bound)
    }
    var shared = 0
    for _ in 0..<200 {
      let pieces = (0..<4).map { ids(1 + integer(40), $0) }
      let rows: [[Int32]] = (0..<1 + integer(24)).map { row in
        (0..<integer(4)).flatMap { _ in pieces[integer(pieces.count)] } + ids(1, 100 + row)
      }
      let window = 1 + integer(rows.count + 3)
      let tree = tree(rows, window: window)
      #expect(tree.beginnings.allSatisfy { $0.ids.count >= PromptTree.leastTokens })
      for (index, beginning) in tree.beginnings.enumerated() {
        #expect(beginning.parent.map { $0 < index } ?? true)
        // Twice in a window of random rows.
        let having = rows.indices.filter { tree.cuts($0).contains(beginning.to) }
        #expect(having.count * min(window, rows.count) >= 2 * rows.count)
      }
      let pass = rows.indices.filter { _ in integer(3) > 0 }.map { Int32($0) }
      let sequences = walk(tree, rows, pass)
      #expect(sequences.compactMap(\.row) == pass)
      for sequence in sequences {
        if let row = sequence.row { #expect(sequence.tokens == rows[Int(row)]) }
      }
      let beginnings = sequences.filter { $0.row == nil }.map(\.tokens)
      #expect(Set(beginnings).count == beginnings.count, "each once")
      let computed = sequences.reduce(0) { $0 + $1.own }
      let tokens = pass.withUnsafeBufferPointer { tree.tokens($0) { rows[Int($0)].count } }
      #expect(tokens == computed)
      shared += pass.reduce(0) { $0 + rows[Int($1)].count } - computed
    }
    #expect(shared > 1000, "tokens saved: \(shared)")
  }
}
