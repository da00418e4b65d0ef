// SPDX-License-Identifier: Apache-2.0

import PAFTKernelInterface

extension KernelTable {
  /// Advanced SIMD (every AArch64 CPU): 4 lanes, 32 registers. BF16 is widened to Float.
  ///
  /// Compiled from the same bodies and run on an emulator (tools/check-neon); no such CPU was at
  /// hand, so no speed was measured.
  package static func neon(_ table: inout KernelTable) {
    table.name = "neon"
    install(&table)
    install(&table.gemm, columns: (16, 12))
    // These bodies compile for 4 lanes, but nothing has run them yet (tools/neon): reference.
    table.attention = KernelTable.reference.attention
  }
}
