// SPDX-License-Identifier: Apache-2.0

import PAFTMachine

/// Whether a result of so many bytes is stored past the caches: 1 when it is at least as large as the
/// last-level cache, so that its next reader would not find its beginning there anyway. Below that a
/// plain store wins twice, since what is in a cache is neither read nor written.
enum Streaming {
  /// Bytes; 32 MiB where the system does not say.
  private static let lastLevel = (try? Machine.detect())?.topology.caches.l3 ?? 32 << 20

  static func flag(_ y: Matrix) -> Int { flag(values: y.rows &* y.columns) }

  static func flag(values: Int) -> Int { values &* 4 >= lastLevel ? 1 : 0 }
}
