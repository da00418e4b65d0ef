// SPDX-License-Identifier: Apache-2.0

import PAFT
import Synchronization

/// Events of a run as lines on standard error. On a terminal one line is drawn over and over, both
/// branches side by side; elsewhere a line appears every `logging_steps` steps of a branch.
final class Progress: Sendable {
  private let isLive: Bool
  private let isQuiet: Bool
  private let state = Mutex(State())

  private struct State {
    var order: [String] = []
    var latest: [String: BranchProgress] = [:]
    var started: [String: Stopwatch] = [:]
    /// The first step of a branch in this process, and how long it took: the watch starts behind it.
    var firstStep: [String: Int] = [:]
    var firstSeconds: [String: Double] = [:]
    var tokens: [String: Int] = [:]
    /// Seconds of branches that have taken their last step: their watches stand.
    var ended: [String: Double] = [:]
    var drawn = Stopwatch()
    var isDrawn = false
  }

  init(quiet: Bool) {
    isQuiet = quiet
    isLive = Terminal.errorIsTerminal && !quiet
  }

  func handle(_ event: RunEvent) {
    if isQuiet { return }
    state.withLock { state in
      switch event {
      case .stage(let name):
        clear(&state)
        state.order = []
        Terminal.error("\(name)\n")
      case .notice(let text):
        clear(&state)
        Terminal.error("  \(text)\n")
      case .step(let progress): step(progress, &state)
      }
    }
  }

  /// Ends the live line, if one stands.
  func finish() { state.withLock { clear(&$0) } }

  private func step(_ progress: BranchProgress, _ state: inout State) {
    let name = progress.branch
    if state.latest[name] == nil || progress.step < state.latest[name]!.step {
      state.started[name] = Stopwatch()
      state.firstStep[name] = progress.step
      state.firstSeconds[name] = progress.seconds
      state.tokens[name] = 0
      state.ended[name] = nil
    }
    if !state.order.contains(name) { state.order.append(name) }
    state.latest[name] = progress
    state.tokens[name]! += progress.tokens
    let isLast = progress.step == progress.totalSteps
    if isLast { state.ended[name] = elapsed(name, state) }
    if isLive {
      if isLast || state.drawn.seconds > 0.1 || !state.isDrawn {
        Terminal.error("\r\u{1B}[K" + line(state))
        state.isDrawn = true
        state.drawn = Stopwatch()
      }
      if isLast {
        // Its line stays as it is; the next one belongs to those who go on.
        clear(&state)
        state.order.removeAll { $0 == name }
      }
    } else if progress.step % progress.loggingSteps == 0 || progress.step == 1 || isLast {
      // Only the branch whose turn it is: the other one has lines of its own.
      Terminal.error("  " + long(name, state) + "\n")
    }
  }

  private func clear(_ state: inout State) {
    if state.isDrawn { Terminal.error("\n") }
    state.isDrawn = false
  }

  // MARK: - Words

  /// All branches on one line of the terminal: the bars shrink and go before anything is cut.
  private func line(_ state: State) -> String {
    let room = Terminal.width - 1
    var line = ""
    for (bar, showsRate) in [(12, true), (6, true), (0, true), (0, false)] {
      line = state.order.map { short($0, state, bar: bar, showsRate: showsRate) }
        .joined(separator: "   ")
      if line.count <= room { return line }
    }
    return String(line.prefix(room))
  }

  private func short(_ name: String, _ state: State, bar width: Int, showsRate: Bool) -> String {
    let p = state.latest[name]!
    return name + " " + (width > 0 ? bar(p, width) + " " : "")
      + "\(p.step)/\(p.totalSteps) loss \(Numbers.fixed(p.loss, 3)) "
      + (showsRate ? rate(name, state) + " " : "") + eta(name, state)
  }

  private func long(_ name: String, _ state: State) -> String {
    let p = state.latest[name]!
    let total = String(p.totalSteps)
    let step = String(p.step)
    let padding = String(repeating: " ", count: max(0, total.count - step.count))
    var line = name + String(repeating: " ", count: max(1, 12 - name.count))
    line += "step \(padding)\(step)/\(total)  loss \(Numbers.fixed(p.loss, 4))"
    if let accuracy = p.rewardAccuracy { line += "  reward acc \(Numbers.percent(accuracy, 0))" }
    if let margin = p.rewardMargin { line += "  margin \(Numbers.fixed(margin, 3))" }
    if p.rewardAccuracy == nil { line += "  token acc \(Numbers.percent(p.tokenAccuracy, 0))" }
    if let sparsity = p.sparsity { line += "  zeros \(Numbers.percent(sparsity, 0))" }
    return line + "  lr \(Numbers.significant(p.learningRate))  \(rate(name, state))  "
      + eta(name, state)
  }

  private func bar(_ p: BranchProgress, _ width: Int) -> String {
    let filled = p.totalSteps > 0 ? width * p.step / p.totalSteps : width
    return String(repeating: "█", count: filled) + String(repeating: "░", count: width - filled)
  }

  /// Tokens per second since the first step of this process began.
  private func rate(_ name: String, _ state: State) -> String {
    let rate = Double(state.tokens[name]!) / max(elapsed(name, state), 1e-9)
    return "\(Numbers.grouped(Int(rate.rounded()))) tok/s"
  }

  private func elapsed(_ name: String, _ state: State) -> Double {
    state.ended[name] ?? state.started[name]!.seconds + state.firstSeconds[name]!
  }

  private func eta(_ name: String, _ state: State) -> String {
    let p = state.latest[name]!
    if p.step == p.totalSteps { return "done" }
    let done = p.step - state.firstStep[name]! + 1
    let left = Double(p.totalSteps - p.step) * elapsed(name, state) / Double(done)
    return "eta \(Numbers.duration(left))"
  }
}
