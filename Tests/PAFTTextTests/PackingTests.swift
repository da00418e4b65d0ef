// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTText
import Testing

@Suite struct PackingTests {
  private func lengths(_ rows: [[Int]], _ lengths: [Int], _ capacity: Int) -> [[Int]] {
    rows.map { $0.map { min(lengths[$0], capacity) } }
  }

  @Test func theDocumentedVectors() {
    let first = [5, 2, 3, 1]
    #expect(
      lengths(Packing.bestFit(lengths: first, capacity: 4), first, 4) == [[4], [3, 1], [2]])
    let second = [7, 3, 5, 2, 6, 4, 1]
    #expect(
      lengths(Packing.bestFit(lengths: second, capacity: 8), second, 8)
        == [[7, 1], [6, 2], [5, 3], [4]])
  }

  /// `pack_dataset` of TRL, up to its window of 1,000 rows.
  @Test func rowsAreThoseOfTRL() throws {
    let cases = try #require(try fixture("packing.json").array)
    #expect(cases.count == 7)
    for item in cases {
      let given = item["lengths"]!.array!.map { $0.int! }
      let capacity = item["capacity"]!.int!
      let rows = Packing.bestFit(lengths: given, capacity: capacity)
      let expected = item["rows"]!.array!.map { $0.array!.map { $0.int! } }
      #expect(lengths(rows, given, capacity) == expected)
      #expect(rows.joined().sorted() == given.indices.filter { given[$0] > 0 })
    }
  }

  /// Against the definition, spelt out in O(n²); equal lengths stay in order.
  @Test(arguments: 0..<40) func rowsAreThoseOfTheDefinition(_ seed: Int) {
    let random = CounterRandom(seed: UInt64(seed))
    let capacity = 1 + random.integer(0, below: 200)
    let given = (0..<random.integer(1, below: 400)).map {
      random.integer(UInt64($0 + 2), below: capacity + 5)
    }
    var rows: [(items: [Int], free: Int, since: Int)] = []
    let order = given.indices.filter { given[$0] > 0 }
      .sorted { (given[$0], $1) > (given[$1], $0) }
    for (step, item) in order.enumerated() {
      let length = min(given[item], capacity)
      let fitting = rows.indices.filter { rows[$0].free >= length }
      let row = fitting.min { (rows[$0].free, rows[$0].since) < (rows[$1].free, rows[$1].since) }
      if let row {
        rows[row].items.append(item)
        rows[row].free -= length
        rows[row].since = step
      } else {
        rows.append(([item], capacity - length, step))
      }
    }
    #expect(Packing.bestFit(lengths: given, capacity: capacity) == rows.map(\.items))
  }

  @Test func aMillionLengthsTakeNoTimeToSpeakOf() {
    let random = CounterRandom(seed: 9)
    let given = (0..<1_000_000).map { 1 + random.integer(UInt64($0), below: 1024) }
    var rows: [[Int]] = []
    let time = ContinuousClock().measure { rows = Packing.bestFit(lengths: given, capacity: 1024) }
    #expect(rows.reduce(0) { $0 + $1.count } == given.count)
    let used = Double(given.reduce(0, +)) / Double(rows.count * 1024)
    #expect(used > 0.99)
    #expect(time < .seconds(10))
  }
}
