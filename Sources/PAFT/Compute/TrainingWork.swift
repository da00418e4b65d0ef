// SPDX-License-Identifier: Apache-2.0

import PAFTModels

/// The arithmetic of training that a model's shape decides, for plans and benchmarks alike.
extension ModelConfiguration {
  /// Products of a weight's value and a token's in the linear layers of the blocks: `labels` of the
  /// `tokens` leave the last block, and only they pass what follows its attention.
  func linearProducts(_ tokens: Double, labels: Double) -> Double {
    products(tokens, labels: labels, in: modules) { Double(outputs($0)) * Double(inputs($0)) }
  }

  private func products(
    _ tokens: Double, labels: Double, in modules: [Module], _ values: (Module) -> Double
  ) -> Double {
    modules.reduce(0) { sum, module in
      let last = module.precedesAttention ? tokens : labels
      return sum + (Double(layers - 1) * tokens + last) * values(module)
    }
  }

  /// Operations of the products in the blocks, forward and backward. A frozen base has no gradient of
  /// weights, and none beneath its first layer's inputs.
  ///
  /// - Parameter adapter: nil trains the weights themselves.
  func productOperations(_ adapter: LoRAConfiguration?, tokens: Double, labels: Double) -> Double {
    let layers = layerOperations(adapter, tokens: tokens, labels: labels)
    guard let adapter else { return layers + 2 * linearProducts(tokens, labels: labels) }
    let low = products(tokens, labels: labels, in: adapter.modules(of: self)) {
      Double(adapter.rank) * Double(outputs($0) + inputs($0))
    }
    return layers + 6 * low
  }

  /// Those of them that read the layers' weights, forward and for gradients of inputs: what may be
  /// multiplied in 8 bits.
  func layerOperations(_ adapter: LoRAConfiguration?, tokens: Double, labels: Double) -> Double {
    let linear = linearProducts(tokens, labels: labels)
    if adapter == nil { return 4 * linear }
    return 4 * linear - 2 * Double(hidden) * Double(queryWidth + 2 * keyWidth) * tokens
  }

  /// Operations of an L1 penalty on adapters' products: for each gradient every entry is made twice and
  /// pulled back to both factors, for a measurement made once.
  func penaltyOperations(
    _ adapter: LoRAConfiguration, gradients: Double, measurements: Double
  ) -> Double {
    let entries = products(1, labels: 1, in: adapter.modules(of: self)) {
      Double(outputs($0)) * Double(inputs($0))
    }
    return (8 * gradients + 2 * measurements) * Double(adapter.rank) * entries
  }

  /// Operations of a labelled row in the head: its loss, and the gradients of what is trained.
  func headOperations(isTrained: Bool) -> Double {
    (isTrained ? 6 : 4) * Double(hidden) * Double(vocabulary)
  }
}
