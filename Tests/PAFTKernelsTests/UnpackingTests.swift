// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTKernels
import Testing

@Suite(.pooled) struct UnpackingTests {
  @Test(
    "A panel is unpacked to the values that were packed, and no others are written",
    arguments: KernelTable.available)
  func unpacked(table: KernelTable) {
    for columns in [1, 3, 7, 8, 9, 16, 20, 33, 63, 64] {
      for k in [1, 2, 5, 31, 32, 33, 47, 64, 97] {
        let tile = table.gemm.tile_bf16
        let count = min(columns, tile.columns)
        let stride = k + 3
        let w = Draw("w").matrix(count, k, stride: stride)
        for row in 0..<count {
          for p in 0..<k { w.pointer[row * stride + p] = BF16(w.pointer[row * stride + p]).float }
        }
        let panel = Guarded<UInt16>(tile.padded(k) * tile.width(count), filledWith: 0x7FFF)
        table.gemm.packBT_bf16(panel.pointer, w.pointer, count, k, stride)
        let found = Guarded<Float>((count - 1) * stride + k, filledWith: -7)
        table.gemm.unpackBT_bf16(found.pointer, panel.pointer, count, k, stride)
        #expect(found.isIntact && panel.isIntact)
        for i in 0..<found.count {
          let expected = i % stride < k ? w.pointer[i] : -7
          #expect(found.pointer[i] == expected, "\(table.name) \(count)x\(k) at \(i)")
        }
      }
      Pool.current.drain()
    }
  }
}
