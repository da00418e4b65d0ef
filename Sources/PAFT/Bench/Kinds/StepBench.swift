// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTMachine
import PAFTModels
import PAFTOps
import PAFTTraining

/// A whole training step: forward, backward, clipping, optimizer, packing of what was trained.
enum StepBench {
  static func job(_ model: String, _ settings: StepSettings, _ repetitions: Int) throws -> BenchJob
  {
    try settings.check()
    let c = try BenchModel.configuration(model)
    let bytes = try SyntheticStep.scratch(c, settings)
    let name = model.split(separator: "/").last.map(String.init) ?? model
    let shape = "\(name) \(settings.batch)x\(settings.length)"
    return BenchJob(kind: .step, bytes: bytes) { session in
      let step = try SyntheticStep(
        c, settings, steps: repetitions + 3, quantizes: session.dtype == .int8,
        on: session.executor)
      var failure: (any Error)?
      func advance() {
        do { try step.advance() } catch { failure = failure ?? error }
      }
      // Buffers have their size and pages are touched after the second step.
      advance()
      session.measure(
        "step", shape,
        "\(settings.objective) \(settings.isFull ? "full" : "lora")"
          + (settings.masters ? "" : " without masters")
          + (settings.checkpointing ? " checkpointing" : ""),
        Work(flops: settings.flops(c)), prepare: {},
        facts: { seconds, peak in
          [
            ("tokens_per_second", Double(settings.tokens) / seconds),
            ("peak_bytes", Double(Machine.peakResident)),
            ("model_flops_utilisation", peak.map { settings.flops(c) / seconds / $0 } ?? 0),
          ]
        }, advance)
      if let failure { throw failure }
    }
  }
}
