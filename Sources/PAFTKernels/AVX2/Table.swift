// SPDX-License-Identifier: Apache-2.0

import PAFTKernelInterface

extension KernelTable {
  /// AVX2 with FMA (Haswell 2013, Zen 2017 and later): 8 lanes, 16 registers.
  ///
  /// Overrides fields in place: copying a table here would leave a copy function compiled for this
  /// instruction set where every other module may pick it up.
  package static func avx2(_ table: inout KernelTable) {
    table.name = "avx2"
    install(&table)
    install(&table.gemm, columns: (16, 16))
    install(&table.integer)
  }
}
