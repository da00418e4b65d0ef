// SPDX-License-Identifier: Apache-2.0

/// What a template is once parsed. Names are numbers into the template's table of names. A class, for
/// every row of a data set walks the tree, and parts of values would be counted at each step.
final class TemplateNode: Sendable {
  let line: Int
  /// Of the tree below, so that no recursion over it is deep.
  let depth: Int
  let expression: TemplateExpression

  init(line: Int, depth: Int, expression: TemplateExpression) {
    self.line = line
    self.depth = depth
    self.expression = expression
  }
}

enum TemplateExpression: Sendable {
  case none
  case bool(Bool)
  case integer(Int)
  case float(Double)
  case text(TemplateText)
  case name(Int)
  case list([TemplateNode], isTuple: Bool)
  case dict([(key: TemplateNode, value: TemplateNode)])
  case attribute(TemplateNode, TemplateName)
  case item(TemplateNode, TemplateNode)
  case slice(TemplateNode, from: TemplateNode?, to: TemplateNode?, step: TemplateNode?)
  case call(TemplateNode, TemplateArguments)
  /// Without operand in `{% filter … %}` and `{% set x | … %}`, where a block's text is it.
  case filter(TemplateNode?, String, TemplateArguments)
  case test(TemplateNode, String, TemplateArguments)
  case not(TemplateNode)
  case and(TemplateNode, TemplateNode)
  case or(TemplateNode, TemplateNode)
  case negative(TemplateNode)
  case positive(TemplateNode)
  case arithmetic(Arithmetic, TemplateNode, TemplateNode)
  /// Two or more with "+" between them.
  case sum([TemplateNode])
  case concatenation([TemplateNode])
  case comparison(TemplateNode, [(Comparison, TemplateNode)])
  case conditional(TemplateNode, condition: TemplateNode, otherwise: TemplateNode?)

  enum Arithmetic: String, Sendable {
    case add = "+"
    case subtract = "-"
    case multiply = "*"
    case divide = "/"
    case floorDivide = "//"
    case remainder = "%"
    case power = "**"
  }

  enum Comparison: String, Sendable {
    case equal = "=="
    case unequal = "!="
    case less = "<"
    case lessOrEqual = "<="
    case greater = ">"
    case greaterOrEqual = ">="
    case isIn = "in"
    case isNotIn = "not in"
  }
}

/// The name of an attribute in the forms it is looked for.
final class TemplateName: Sendable {
  let string: String
  let text: TemplateText
  /// Whether values of some kind have a method of this name, which goes before a member.
  let isMethod: Bool

  init(_ name: String) {
    string = name
    text = TemplateText(name)
    isMethod = TemplateEvaluator.isMethod(name)
  }
}

struct TemplateArguments: Sendable {
  var positional: [TemplateNode] = []
  var keywords: [(name: String, value: TemplateNode)] = []
}

struct TemplateStatement: Sendable {
  let line: Int
  let kind: Kind

  indirect enum Kind: Sendable {
    case text(TemplateText)
    case print(TemplateNode)
    case branches(
      [(condition: TemplateNode, body: [TemplateStatement])], otherwise: [TemplateStatement])
    case loop(LoopDefinition)
    case set(TemplateTarget, TemplateNode)
    /// The chain of filters has an operand-less filter at its root.
    case setBlock(TemplateTarget, filters: TemplateNode?, body: [TemplateStatement])
    case macro(name: Int, MacroDefinition)
    case call(TemplateNode, caller: MacroDefinition)
    case filter(TemplateNode, body: [TemplateStatement])
    case scope([(TemplateTarget, TemplateNode)], body: [TemplateStatement])
    case generation([TemplateStatement])
    case leaveLoop
    case nextTurn
  }
}

indirect enum TemplateTarget: Sendable {
  case name(Int)
  case member(name: Int, attribute: String)
  case tuple([TemplateTarget])
}

struct LoopDefinition: Sendable {
  let target: TemplateTarget
  let items: TemplateNode
  let condition: TemplateNode?
  let body: [TemplateStatement]
  let otherwise: [TemplateStatement]
}

struct MacroDefinition: Sendable {
  let name: String
  let parameters: [(name: String, id: Int, value: TemplateNode?)]
  let body: [TemplateStatement]
}
