// SPDX-License-Identifier: Apache-2.0

import PAFTBase

private let cpuFolder = "/sys/devices/system/cpu"
/// Of x86 and of AArch64 with pages of 4 to 64 KiB.
private let hugePageSizes = [64 << 10, 2 << 20, 32 << 20, 512 << 20, 1 << 30, 16 << 30]
private let nodeFolder = "/sys/devices/system/node"

extension Topology {
  /// Reads sysfs. Where it is hidden, every granted CPU counts as a core of one package and node.
  static func read(_ files: SystemFiles, granted: [Int]) throws -> Topology {
    let listed = files.cpuList(cpuFolder + "/online") ?? []
    let online = listed.isEmpty ? granted : listed
    guard !online.isEmpty else {
      throw Fault(
        .unexpected, "no CPU found: \(files.root)\(cpuFolder)/online is missing or unreadable",
        hint: "mount /sys and /proc in the container")
    }
    let nodes = readNodes(files, online: online)
    var nodeOfCPU: [Int: Int] = [:]
    for node in nodes { for cpu in node.cpus { nodeOfCPU[cpu] = node.id } }

    let present = Set(files.cpuList(cpuFolder + "/present") ?? online)
    return Topology(
      model: readModel(files),
      cpus: online.map { readCPU($0, files, node: nodeOfCPU[$0] ?? nodes[0].id) },
      offline: present.subtracting(online).sorted(),
      nodes: nodes,
      caches: Caches(
        l1: cache(level: 1, of: online[0], files).flatMap { files.cacheSize($0 + "/size") },
        l2: cache(level: 2, of: online[0], files).flatMap { files.cacheSize($0 + "/size") },
        l3: cache(level: 3, of: online[0], files).flatMap { files.cacheSize($0 + "/size") }),
      hugePages: HugePages(
        transparent: files.text("/sys/kernel/mm/transparent_hugepage/enabled")
          .flatMap { chosen(in: $0) },
        defrag: files.text("/sys/kernel/mm/transparent_hugepage/defrag").flatMap { chosen(in: $0) },
        pools: hugePageSizes.compactMap { size in
          let folder = "/sys/kernel/mm/hugepages/hugepages-\(size >> 10)kB"
          return files.integer(folder + "/nr_hugepages").map {
            HugePages.Pool(size: size, count: $0, free: files.integer(folder + "/free_hugepages"))
          }
        }))
  }

  /// Some virtual machines tell the maker alone, "AMD EPYC": then by family and model, which name the
  /// architecture.
  private static func readModel(_ files: SystemFiles) -> String {
    let path = "/proc/cpuinfo"
    let name = files.field("model name", of: path) ?? ""
    guard !name.contains(where: \.isNumber), let family = files.field("cpu family", of: path),
      let model = files.field("model", of: path)
    else { return name }
    return "\(name) (family \(family), model \(model))"
  }

  private static func readCPU(_ id: Int, _ files: SystemFiles, node: Int) -> CPU {
    let topology = "\(cpuFolder)/cpu\(id)/topology"
    // Kernels before 5.3 know the second name only.
    let threads =
      files.cpuList(topology + "/core_cpus_list")
      ?? files.cpuList(topology + "/thread_siblings_list")
    return CPU(
      id: id,
      core: threads?.first ?? id,
      // Some virtual machines report -1: one package.
      package: max(0, files.integer(topology + "/physical_package_id") ?? 0),
      node: node,
      l3: cache(level: 3, of: id, files).flatMap { files.cpuList($0 + "/shared_cpu_list")?.first })
  }

  private static func readNodes(_ files: SystemFiles, online: [Int]) -> [Node] {
    let ids = files.cpuList(nodeFolder + "/online") ?? []
    guard !ids.isEmpty else {
      let memory = files.kilobytes("MemTotal", of: "/proc/meminfo")
      return [Node(id: 0, cpus: online, memory: memory, distances: [10])]
    }
    return ids.map { id in
      let folder = "\(nodeFolder)/node\(id)"
      let cpus = files.cpuList(folder + "/cpulist") ?? []
      return Node(
        id: id,
        cpus: cpus.filter(Set(online).contains),
        memory: files.kilobytes("Node \(id) MemTotal", of: folder + "/meminfo"),
        distances: files.text(folder + "/distance")?.split(separator: " ").compactMap { Int($0) }
          ?? [])
    }
  }

  /// The folder of a CPU's data or unified cache of a level.
  private static func cache(level: Int, of cpu: Int, _ files: SystemFiles) -> String? {
    (0..<8).lazy.map { "\(cpuFolder)/cpu\(cpu)/cache/index\($0)" }.first {
      files.integer($0 + "/level") == level && files.text($0 + "/type") != "Instruction"
    }
  }

  /// The bracketed word of "always [madvise] never".
  private static func chosen(in text: String) -> String? {
    text.split(separator: " ").first { $0.hasPrefix("[") && $0.hasSuffix("]") }
      .map { String($0.dropFirst().dropLast()) }
  }
}
