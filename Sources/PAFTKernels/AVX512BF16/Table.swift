// SPDX-License-Identifier: Apache-2.0

import PAFTKernelInterface

extension KernelTable {
  package static func avx512bf16(over base: KernelTable) -> KernelTable {
    var table = base
    table.name = "avx512bf16"
    return table
  }
}
