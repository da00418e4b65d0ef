// SPDX-License-Identifier: Apache-2.0

/// Sums and differences that stay within 0...20.
extension QuestionTask {
  static let sum = QuestionTask(name: "sum", weight: 11) { dice in
    let total = dice.roll(21)
    let part = dice.roll(total + 1)
    let isSum = dice.chance(0.5)
    let problem = isSum ? "\(part) plus \(total - part)" : "\(total) minus \(part)"
    return Question(
      task: "sum", key: problem,
      text: dice.pick(["What is \(problem)?", "How much is \(problem)?"]),
      answer: "\(isSum ? total : total - part)")
  }
}
