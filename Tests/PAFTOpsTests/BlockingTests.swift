// SPDX-License-Identifier: Apache-2.0

import PAFTOps
import Testing

@Suite("Blocking by the caches")
struct BlockingTests {
  @Test("the measured choice where it was measured, and where nothing is known")
  func measured() {
    let zen4 = Blocking(l2: 1 << 20, l3: 32 << 20, sharing: 2)
    #expect(zen4.rows == 192 && zen4.transposedBytes == 8 << 20)
    #expect(Blocking(l2: nil, l3: nil, sharing: 2) == zen4)
    // A whole slice of k, a quarter of one, and a row of next to nothing.
    #expect([8192, 2048, 2].map(zen4.rows(of:)) == [192, 768, 768])
    #expect(zen4.rows(of: 1792) * 1792 <= 192 * 8192)
  }

  @Test("smaller caches take less, and no cache is too small or too large")
  func sizes() {
    let whole = Blocking(l2: 1 << 20, l3: 32 << 20, sharing: 8)
    #expect(whole.transposedBytes == 2 << 20)
    #expect(Blocking(l2: 2 << 20, l3: 105 << 20, sharing: 48).rows == 384)
    for l2 in [0, 1, 256 << 10, 512 << 10, 1280 << 10, 3 << 20, 64 << 20] {
      for l3 in [0, 4 << 20, 384 << 20] {
        for sharing in [0, 1, 6, 64] {
          let blocking = Blocking(l2: l2, l3: l3, sharing: sharing)
          #expect((48...768).contains(blocking.rows) && blocking.rows % 48 == 0)
          #expect((1 << 20...32 << 20).contains(blocking.transposedBytes))
        }
      }
    }
  }
}
