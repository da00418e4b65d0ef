// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

extension Executor {
  /// Virtual memory reserved for scratch; pages are committed as they are touched.
  package static let scratchReserve = 1 << 38

  /// An executor on the calling root's team.
  ///
  /// - Parameters:
  ///   - isa: a kernel table by name; nil takes the best that this CPU has.
  ///   - scratch: bytes of scratch to reserve.
  package static func make(
    _ team: Team, compute: ComputeType, isa: String? = nil, scratch: Int = scratchReserve
  ) throws -> Executor {
    try Executor(
      team: team, kernels: KernelTable.select(forced: isa), compute: compute,
      scratch: Arena(capacity: scratch, node: team.place.node, name: "scratch"))
  }
}
