// SPDX-License-Identifier: Apache-2.0

import PAFTFormats

/// What a branch's `metrics.jsonl` adds up to, over all sessions of the run.
struct TrainingLog: Sendable {
  private(set) var tokens = 0
  private(set) var seconds = 0.0
  private(set) var firstLoss = Double.nan
  private(set) var finalLoss = Double.nan

  init(folder: String) throws {
    let path = folder + "/metrics.jsonl"
    let bytes = try FileSystem.read(path)
    var losses: [Double] = []
    for (number, line) in bytes.split(separator: UInt8(ascii: "\n")).enumerated() {
      let row = try JSON.parse(line: Array(line), at: "\(path):\(number + 1)")
      tokens += row["tokens"]?.int ?? 0
      seconds += row["seconds"]?.double ?? 0
      losses.append(row["loss"]?.double ?? .nan)
    }
    guard let first = losses.first else { return }
    let tail = losses.suffix(max(1, losses.count / 10))
    firstLoss = first
    finalLoss = tail.reduce(0, +) / Double(tail.count)
  }
}
