// SPDX-License-Identifier: Apache-2.0

import PAFT
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// ^C ends the answer that is being written; at the prompt it says what ends the session.
enum AnswerStop {
  private static let requested = Atomic<Bool>(false)
  private static let waiting = Atomic<Bool>(false)

  static var isRequested: Bool { requested.load(ordering: .relaxed) }

  /// While a line is awaited.
  static func atPrompt<T>(_ body: () -> T) -> T {
    requested.store(false, ordering: .relaxed)
    waiting.store(true, ordering: .relaxed)
    defer {
      waiting.store(false, ordering: .relaxed)
      requested.store(false, ordering: .relaxed)
    }
    return body()
  }

  static func install() {
    requested.store(false, ordering: .relaxed)  // made before a handler may need it
    waiting.store(false, ordering: .relaxed)
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { _ in AnswerStop.request() }
    action.sa_flags = SA_RESTART
    sigaction(SIGINT, &action, nil)
    var wanted = sigset_t()
    sigemptyset(&wanted)
    sigaddset(&wanted, SIGINT)
    pthread_sigmask(SIG_UNBLOCK, &wanted, nil)
    signal(SIGPIPE, SIG_IGN)
  }

  /// In a signal handler: nothing is allocated, only write(2) is called.
  static func request() {
    requested.store(true, ordering: .relaxed)
    guard waiting.load(ordering: .relaxed) else { return }
    let hint: StaticString = "\n(^D or /quit ends)\n> "
    _ = write(STDERR_FILENO, hint.utf8Start, hint.utf8CodeUnitCount)
  }
}

/// Answers on standard output as they come; of two models one below the other, or on a terminal wide
/// enough in two columns when both have spoken.
final class ChatView: Sendable {
  private let sides: Int
  private let json: Bool
  private let quiet: Bool
  private let isLive = isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1
  private let pending = Mutex<[ChatVerb.Answer]>([])

  private static let clearLine = "\r\u{1B}[K"

  init(sides: Int, json: Bool, quiet: Bool) {
    self.sides = sides
    self.json = json
    self.quiet = quiet
  }

  /// Decided when a question is asked: a window may change its width at any time.
  private let columns = Mutex<ChatColumns?>(nil)

  func prompt() { if isLive { Terminal.error("> ") } }

  func end() { if isLive { Terminal.error("\n") } }

  func show(_ event: ChatVerb.Event) {
    switch event {
    case .ready: if isLive && !quiet { Terminal.error(ChatVerb.help + "\n") }
    case .notice(let text):
      if isLive && sides > 1 { Terminal.error(Self.clearLine) }
      Terminal.error("(\(text))\n")
    case .begins(let name, let side):
      if json { return }
      if side == 0 {
        pending.withLock { $0 = [] }
        columns.withLock {
          $0 = isLive && sides > 1 ? ChatColumns(terminal: Terminal.width, count: sides) : nil
        }
      }
      if usesColumns {
        Terminal.error(Self.clearLine + "[\(ChatColumns.visible(name))] …")
      } else if sides > 1 {
        Terminal.output("[\(name)] ")
      }
    case .text(let text):
      if !json && !usesColumns { Terminal.output(isLive ? ChatColumns.visible(text) : text) }
    case .ends(let answer): end(answer)
    }
  }

  private var usesColumns: Bool { columns.withLock { $0 != nil } }

  private func end(_ answer: ChatVerb.Answer) {
    if json { return Terminal.line(answer.json) }
    guard let columns = columns.withLock({ $0 }) else {
      if isLive, !answer.isStopped, answer.text.allSatisfy(\.isWhitespace) {
        return Terminal.error("(an empty answer)\n")
      }
      return Terminal.output(answer.isStopped ? " …\n" : "\n")
    }
    let answers = pending.withLock { pending in
      pending.append(answer)
      return answer.side == sides - 1 ? pending : []
    }
    if answers.isEmpty { return }
    Terminal.error(Self.clearLine)
    Terminal.output(
      columns.render(answers.map { ($0.model, $0.text + ($0.isStopped ? " …" : "")) }))
  }
}
