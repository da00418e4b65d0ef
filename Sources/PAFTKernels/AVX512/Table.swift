// SPDX-License-Identifier: Apache-2.0

import PAFTKernelInterface

extension KernelTable {
  /// AVX-512 F, BW, DQ, VL (Skylake-X 2017 and later): 16 lanes, 32 registers.
  ///
  /// Overrides fields in place: copying a table here would leave a copy function compiled for this
  /// instruction set where every other module may pick it up.
  package static func avx512(_ table: inout KernelTable) {
    table.name = "avx512"
    install(&table)
    install(&table.gemm, columns: (64, 64))
    install(&table.integer)
  }
}
