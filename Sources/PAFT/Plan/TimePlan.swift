// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine
import PAFTModels
import PAFTOps
import PAFTTraining

/// How long training will take: the arithmetic that the rows make, at the rates at which this machine
/// multiplies matrices of the model's shape, measured on the spot.
struct TimePlan: Sendable {
  /// Of each branch's training, its reference included.
  let work: [BranchWork]
  /// Seconds of each branch on its place.
  let seconds: [Double]
  let isSequential: Bool
  /// Of each branch's place.
  private let cores: [Int]

  /// Two branches at once: the cores of the first to end join the other.
  var training: Double {
    guard !isSequential, seconds.count == 2 else { return seconds.reduce(0, +) }
    let last = seconds[0] > seconds[1] ? 0 : 1
    let rest = seconds[last] - seconds[1 - last]
    return seconds[1 - last] + rest * Double(cores[last]) / Double(max(1, cores.reduce(0, +)))
  }

  init(_ preparation: Preparation) throws {
    work = try preparation.jobs.map {
      try BranchWork($0, preparation.model.configuration, preparation.recipe)
    }
    isSequential = preparation.isSequential
    cores = preparation.places.map { $0.isShared ? 0 : $0.count }
    var rates: [ProductRates] = []
    for place in preparation.places {
      if let known = zip(preparation.places, rates).first(where: { $0.0.count == place.count }) {
        rates.append(known.1)
      } else {
        rates.append(try ProductRates(of: preparation, on: place))
      }
    }
    seconds = zip(work, rates).map { $0.seconds(at: $1) }
  }
}
