// SPDX-License-Identifier: Apache-2.0

import PAFTKernelInterface

extension KernelTable {
  package static func avx2(over base: KernelTable) -> KernelTable {
    var table = base
    table.name = "avx2"
    return table
  }
}
