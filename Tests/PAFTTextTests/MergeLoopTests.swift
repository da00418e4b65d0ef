// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTText
import Testing

@Suite struct LongWordTests {
  /// A word without borders: the merge loop's heap must do what its scan does. With the tokens a,
  /// aa, aaaa, … of 2^k letters, n letters give the binary digits of n when merged lowest rank
  /// first from the left.
  @Test(arguments: [1, 2, 3, 47, 48, 49, 50, 63, 64, 100, 1000, 1 << 20])
  func powersOfTwo(_ count: Int) throws {
    let powers = (0...20).map { 1 << $0 }
    let vocabulary = powers.enumerated().map { "\"\(String(repeating: "a", count: $1))\":\($0)" }
    let merges = powers.dropLast().map {
      let word = String(repeating: "a", count: $0)
      return "[\"\(word)\",\"\(word)\"]"
    }
    let file = """
      {"model":{"type":"BPE","vocab":{\(vocabulary.joined(separator: ","))},
      "merges":[\(merges.joined(separator: ","))]},"decoder":{"type":"Fuse"}}
      """
    let tokenizer = try Tokenizer(Array(file.utf8), source: "powers")
    let ids = try tokenizer.encode(String(repeating: "a", count: count), addSpecialTokens: false)
    let expected = (0...20).reversed().filter { count >> $0 & 1 == 1 }.map { Int32($0) }
    #expect(ids == expected)
  }
}
