// SPDX-License-Identifier: Apache-2.0

import PAFTKernelInterface

extension KernelTable {
  package static func avx512(over base: KernelTable) -> KernelTable {
    var table = base
    table.name = "avx512"
    return table
  }
}
