// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTMachine
import PAFTTestSupport
import PAFTTraining
import Testing

@Suite("A step's rows cut into passes")
struct PassCutTests {
  private func cut(_ lengths: [Int], _ capacity: Int, window: [Int32]? = nil) -> [[Int32]] {
    let window = window ?? lengths.indices.map { Int32($0) }
    return window.withUnsafeBufferPointer {
      PassCut.passes($0, capacity: capacity) { lengths[Int($0)] }
    }
  }

  private func loads(_ passes: [[Int32]], _ lengths: [Int]) -> [Int] {
    passes.map { $0.reduce(0) { $0 + lengths[Int($1)] } }
  }

  @Test("small cases, by hand")
  func byHand() {
    #expect(cut([], 10) == [])
    #expect(cut([3, 4, 3], 10) == [[0, 1, 2]])
    // In order they would make three passes: 6, 7 + 3, 4. Two hold them, 10 and 10.
    #expect(cut([6, 7, 3, 4], 10) == [[0, 3], [1, 2]])
    // Even: 2048 + 52 tokens become 1050 and 1050.
    #expect(loads(cut([525, 525, 525, 525], 2048), [525, 525, 525, 525]) == [1050, 1050])
    // The emptiest pass would overflow: 5, 4 | 4, 3, 3 fits, 5, 3 | 4, 4 and then 3 does not.
    #expect(loads(cut([5, 4, 4, 3, 3], 10), [5, 4, 4, 3, 3]).allSatisfy { $0 <= 10 })
    // Rows beyond the capacity stand alone.
    #expect(cut([30, 2, 40, 3], 10).map(\.count).sorted() == [1, 1, 2])
    #expect(cut([9, 9], 10, window: [1, 0]) == [[1], [0]])
  }

  @Test("what all rows share counts once for each pass")
  func shared() {
    let window: [Int32] = [0, 1, 2, 3]
    let lengths = [50, 60, 70, 45]
    window.withUnsafeBufferPointer {
      // 40 + 10 + 20 + 30 + 5 tokens.
      #expect(PassCut.passes($0, capacity: 105, shared: 40) { lengths[Int($0)] }.count == 1)
      #expect(PassCut.passes($0, capacity: 104, shared: 40) { lengths[Int($0)] }.count == 2)
      #expect(PassCut.passes($0, capacity: 40, shared: 40) { lengths[Int($0)] }.count == 4)
    }
  }

  @Test("no more passes than TRL's best fit needs, and all its rows")
  func trl() throws {
    let cases = try #require(try JSON.read(path: TestData.fixture("text/packing.json")).array)
    #expect(cases.count == 7)
    for item in cases {
      let capacity = item["capacity"]!.int!
      let lengths = item["lengths"]!.array!.map { min($0.int!, capacity) }.filter { $0 > 0 }
      let expected = item["rows"]!.array!
      #expect(expected.reduce(0) { $0 + $1.array!.count } == lengths.count)
      let passes = cut(lengths, capacity)
      #expect(passes.count == expected.count)
      #expect(loads(passes, lengths).allSatisfy { $0 <= capacity })
    }
  }

  @Test("each row once, none too full, no more than in order, and never fewer than must be")
  func random() {
    let random = CounterRandom(seed: 3).stream("passes")
    var next: UInt64 = 0
    func integer(_ bound: Int) -> Int {
      next += 1
      return random.integer(next, below: bound)
    }
    var saved = 0
    for _ in 0..<300 {
      let lengths = (0..<1 + integer(70)).map { _ in 1 + integer(900) }
      let capacity = 400 + integer(2000)
      let passes = cut(lengths, capacity)
      #expect(passes.flatMap { $0 }.sorted() == lengths.indices.map { Int32($0) })
      #expect(passes.allSatisfy { $0 == $0.sorted() && !$0.isEmpty })
      #expect(passes.map { $0[0] } == passes.map { $0[0] }.sorted())
      for (load, pass) in zip(loads(passes, lengths), passes) {
        #expect(load <= capacity || pass.count == 1)
      }
      var inOrder = 1
      var load = 0
      for length in lengths {
        if load > 0, load + length > capacity {
          inOrder += 1
          load = 0
        }
        load += length
      }
      #expect(passes.count <= inOrder)
      #expect(passes.count >= (lengths.reduce(0, +) + capacity - 1) / max(capacity, lengths.max()!))
      saved += inOrder - passes.count
    }
    #expect(saved > 100, "best fit saves passes: \(saved)")
  }

  @Test("long windows in parts, with the same cut in an arena")
  func long() throws {
    let lengths = (0..<5000).map { 1 + ($0 * 7919) % 600 }
    let window = lengths.indices.map { Int32($0) }
    let planned = cut(lengths, 2048)
    #expect(planned.flatMap { $0 }.sorted() == window)
    let arena = try Arena(capacity: 1 << 20, node: nil, name: "cut")
    window.withUnsafeBufferPointer {
      let made = PassCut($0, capacity: 2048, in: arena) { lengths[Int($0)] }
      #expect((0..<made.count).map { Array(made[$0]) } == planned)
    }
  }
}
