// SPDX-License-Identifier: Apache-2.0

/// One side of a product that is read as it lies: as Floats, or rounded already.
package enum Rows: Sendable {
  case floats(Matrix)
  case rounded(RoundedMatrix)

  package var rows: Int {
    switch self {
    case .floats(let x): x.rows
    case .rounded(let x): x.rows
    }
  }

  package var columns: Int {
    switch self {
    case .floats(let x): x.columns
    case .rounded(let x): x.columns
    }
  }
}
