// SPDX-License-Identifier: Apache-2.0

import PAFTKernelInterface

extension KernelTable {
  /// AVX-512 with VDPBF16PS (Cooper Lake 2020, Zen 4 2022 and later). Operands and results of the
  /// pair instruction flush subnormals to zero; everything else is as in `avx512`.
  ///
  /// Overrides fields in place: copying a table here would leave a copy function compiled for this
  /// instruction set where every other module may pick it up.
  package static func avx512bf16(_ table: inout KernelTable) {
    table.name = "avx512bf16"
    install(&table)
    install(&table.gemm, columns: (64, 64))
    install(&table.integer)
  }
}
