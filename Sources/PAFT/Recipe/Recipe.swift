// SPDX-License-Identifier: Apache-2.0

/// What a run shall do, every value decided: the base, the two branches, the merge, the evaluation,
/// the machine. Read it from YAML, or change a field and run.
public struct Recipe: Sendable, Equatable {
  /// Folder of the base model.
  public var model: String
  /// Folder that the run makes.
  public var output: String
  public var seed: Int
  public var dtype: Precision
  /// As `dtype`, or int8 for the linear layers of the base's blocks; of a branch that trains all
  /// weights they are quantised anew after each step.
  public var baseDtype: Precision
  /// nil in a recipe for the other branch alone.
  public var sft: Branch?
  public var align: Branch?
  public var merge: Merge
  public var baselines: [Baseline]
  public var machine: Machine
  public var evaluation: Evaluation

  /// Of the operands of matrix products. int8 is of linear layers, forward and for the gradients of
  /// their inputs; all around them is bf16 unless `dtype` says otherwise.
  public enum Precision: String, Sendable, CaseIterable { case bf16, f32, int8 }

  public enum Baseline: String, Sendable, CaseIterable {
    /// SFT first, then alignment of its result.
    case sequential
    /// The same merge with an SFT branch trained without L1.
    case dense
  }

  /// One branch's training.
  public struct Branch: Sendable, Equatable {
    public var data: String
    /// Held-out rows; nil: `evalFraction` of the data.
    public var evalData: String?
    public var evalFraction: Double
    public var adapter: Adapter
    public var epochs: Double
    /// nil: by epochs.
    public var maxSteps: Int?
    public var learningRate: Double
    public var lrScheduler: String
    /// Below 1 a share of the steps, from 1 on their number.
    public var warmup: Double
    public var optimizer: Optimizer
    /// Of full fine-tuning: whether Floats are trained, or the BF16 weights that are multiplied.
    public var masterWeights = true
    public var weightDecay: Double
    /// 0: no clipping.
    public var maxGradNorm: Double
    /// Rows or pairs of a micro-batch.
    public var batchSize: Int
    public var gradientAccumulationSteps: Int
    /// Tokens of a row.
    public var maxLength: Int
    /// Of conversations train only what the chat template marks as the assistant's.
    public var assistantOnlyLoss = false
    /// Of prompts and completions train the completion alone.
    public var completionOnlyLoss = true
    /// What rows of a batch begin with alike is computed once, and a pair's prompt for both answers.
    public var sharePrompts = true
    /// So many rows may be bad and are left out.
    public var maxBadRows = 0
    public var shuffle: Bool
    public var gradientCheckpointing: Bool
    /// 0: only when stopped.
    public var saveSteps: Int
    public var saveTotalLimit: Int
    public var loggingSteps: Int
    public var l1: L1?
    /// The preference objective; nil is supervised fine-tuning.
    public var preference: Preference?
  }

  public enum Optimizer: Sendable, Equatable {
    /// `eightBit`: both moments block-wise in 8 bits, a quarter of their memory.
    case adamw(beta1: Double, beta2: Double, epsilon: Double, eightBit: Bool = false)
    case sgd(momentum: Double)
  }

  public enum Adapter: Sendable, Equatable {
    case full
    /// `targetModules` empty: every linear layer.
    case lora(r: Int, alpha: Double, dropout: Double, targetModules: [String], rslora: Bool)
  }

  /// The penalty on the delta: exactly one of `lambda` and `targetSparsity` is set.
  public struct L1: Sendable, Equatable {
    public var lambda: Double?
    public var targetSparsity: Double?
    /// prox, factor or product; nil: by the adapter.
    public var form: String?

    public init(lambda: Double? = nil, targetSparsity: Double? = nil, form: String? = nil) {
      self.lambda = lambda
      self.targetSparsity = targetSparsity
      self.form = form
    }
  }

  public struct Preference: Sendable, Equatable {
    public var losses: [String]
    /// One per loss; nil: 1 each.
    public var lossWeights: [Double]?
    public var beta: Double
    public var labelSmoothing: Double
    public var simpoGamma: Double
    public var cpoAlpha: Double
    public var alphaPO: Double
    public var divergence: String
    public var divergenceAlpha: Double
    public var discopopTau: Double
    /// Folder that keeps reference log-probabilities between runs.
    public var referenceCache: String?
  }

  public struct Merge: Sendable, Equatable {
    public var method: String
    public var density: PerBranch
    public var weights: PerBranch
    public var lambda: Double
    /// nil: the method's default.
    public var normalize: Bool?
    public var t: Double
    public var seed: Int
    /// bf16, f32 or f16; nil: as the base is stored.
    public var dtype: String?
  }

  public struct PerBranch: Sendable, Equatable {
    public var sft: Double
    public var align: Double

    public init(sft: Double, align: Double) {
      self.sft = sft
      self.align = align
    }
  }

  public struct Machine: Sendable, Equatable {
    public var partitions: Partitions
    /// nil: all that are granted.
    public var threads: Int?
    /// Bytes; nil: what the process is granted.
    public var memoryLimit: Int?
  }

  public enum Partitions: Sendable, Equatable {
    case auto
    /// One branch after the other, each on all cores.
    case sequential
    /// CPU lists such as "0-3,8".
    case cpus(sft: String, align: String)
  }

  public struct Evaluation: Sendable, Equatable {
    public var batchSize: Int
    /// Held-out rows of each data set; nil: all.
    public var limit: Int?
    public var grader: Grader
    public var maxNewTokens: Int
  }

  public enum Grader: String, Sendable { case none, example }
}
