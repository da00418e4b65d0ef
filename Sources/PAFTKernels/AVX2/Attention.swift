// SPDX-License-Identifier: Apache-2.0

import PAFTKernelBodies
import PAFTKernelInterface

/// Groups of 2 vectors of queries.
typealias AttentionTile = TileShape<6, 2>
@inline(__always) var attentionColumns: Int { 2 &* Lanes.lanes }

/// Panels of as many columns of D as are left.
@inline(__always)
func accumulateRows<P: AttentionProduct>(
  _: P.Type, _ product: UnsafeMutablePointer<Float>, _ stride: Int, _ left: UnsafeRawPointer,
  _ right: UnsafeRawPointer, _ panels: Int, _ size: Int
) {
  let a = left.assumingMemoryBound(to: P.Element.self)
  var (to, b) = (product, right.assumingMemoryBound(to: P.Element.self))
  var remaining = size
  while remaining > Lanes.lanes {
    accumulateRows(P.self, AttentionTile.self, to, stride, a, b, panels, attentionColumns)
    to += attentionColumns
    b += attentionColumns &* attentionColumns
    remaining &-= attentionColumns
  }
  if remaining > 0 {
    accumulateRows(P.self, TileShape<6, 1>.self, to, stride, a, b, panels, attentionColumns)
  }
}
