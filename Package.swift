// swift-tools-version: 6.1
import PackageDescription

// One target is one room; the order below is the order of the layers, and an arrow only points upwards on this
// page: a room depends on rooms that stand above it here.

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
]

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let coreMetrics = Target.Dependency.product(name: "CoreMetrics", package: "swift-metrics")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let unixSignals = Target.Dependency.product(name: "UnixSignals", package: "swift-service-lifecycle")
let httpTypes = Target.Dependency.product(name: "HTTPTypes", package: "swift-http-types")
let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let nioHTTPTypes = Target.Dependency.product(name: "NIOHTTPTypes", package: "swift-nio-extras")
let hummingbirdCore = Target.Dependency.product(name: "HummingbirdCore", package: "hummingbird")
let hummingbird = Target.Dependency.product(name: "Hummingbird", package: "hummingbird")

func room(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(of name: String, _ dependencies: [Target.Dependency] = [], resources: [Resource] = []) -> Target {
    .testTarget(
        name: "\(name)Tests", dependencies: [.byName(name: name)] + dependencies, resources: resources,
        swiftSettings: settings)
}

let package = Package(
    name: "kirie",
    products: [
        .executable(name: "kirie", targets: ["KirieCLI"]),
        .library(name: "SegmentAnything", targets: ["SegmentAnything"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
        // what Hummingbird stands on, of which the gateway speaks itself: a connection's end, the fields of a head
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
    ],
    targets: [
        // 0: C at the edge
        .systemLibrary(name: "COpenBLAS", providers: [.apt(["libopenblas-dev"])]),
        .systemLibrary(name: "COneDNN", providers: [.apt(["libdnnl-dev"])]),
        .systemLibrary(name: "CPNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"])]),
        .systemLibrary(name: "CTurboJPEG", pkgConfig: "libturbojpeg", providers: [.apt(["libturbojpeg0-dev"])]),
        .systemLibrary(name: "CTIFF"),
        .systemLibrary(name: "CCurl"),
        .systemLibrary(name: "CCrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CTLS", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CHiredis", providers: [.apt(["libhiredis-dev"])]),
        .systemLibrary(name: "CLinux"),
        .target(name: "CKernels"),
        .target(name: "CFunctionsLibrary"),
        .target(name: "CPages"),
        // 1: the system, JSON, numbers, pictures, vocabulary
        room("Platform", ["CLinux"]),
        room("JSON", ["Platform"]),
        room("Terminals", ["Platform", "JSON", unixSignals]),
        room("Hashing", ["CCrypto"]),
        room("Tensors", ["COpenBLAS", "COneDNN", "CKernels"]),
        room("Imaging", ["CPNG", "CTurboJPEG", "CTIFF", "Platform"]),
        room("Segmentation", ["Platform", "JSON"]),
        room("Redis", ["CHiredis", "CTLS", "Platform"]),
        room("Downloads", ["CCurl"]),
        // 2: files of weights
        room("Checkpoints", ["Tensors", "Downloads", "Platform", "JSON", "Hashing"]),
        // 3: layers
        room("NeuralNetworks", ["Tensors", "Checkpoints", "CKernels"]),
        // 2: masks as files
        room("Exporting", ["Imaging", "Segmentation", "JSON", "Platform"]),
        // 4: the paper's boxes
        room("SegmentAnything", ["NeuralNetworks", "Checkpoints", "Imaging", "Segmentation", "JSON", "Platform"]),
        room(
            "TextMatching",
            ["NeuralNetworks", "Checkpoints", "Imaging", "Segmentation", "Tensors", "JSON", "Platform"]),
        // 5: embeddings and jobs in Redis
        room("Embeddings", ["Segmentation", "Tensors", "Redis", "Hashing", "Platform"]),
        .target(
            name: "Cluster",
            dependencies: ["CFunctionsLibrary", "Platform", "JSON", "Segmentation", "Redis", "Hashing"],
            exclude: ["Resources"], swiftSettings: settings),
        // 5: what services say of themselves
        room("Telemetry", [logging, coreMetrics, lifecycle, hummingbird]),
        // 5: measuring a model on labelled pictures
        room(
            "Evaluation",
            ["SegmentAnything", "TextMatching", "Imaging", "Segmentation", "Tensors", "JSON", "Platform"]),
        // 6: the long-running roles
        room(
            "Workers",
            [
                "Cluster", "Embeddings", "SegmentAnything", "TextMatching", "Checkpoints", "Imaging", "JSON",
                "Segmentation", "Tensors", "Redis", "Platform", "Hashing", logging, coreMetrics, lifecycle,
            ]),
        // 6: what every submitting side shares
        room(
            "Clients",
            ["Cluster", "Embeddings", "Imaging", "Segmentation", "JSON", "Redis", "Platform", "Hashing"]),
        // 7: HTTP
        .target(
            name: "Gateway",
            dependencies: [
                "CPages", "CPNG", "Clients", "Telemetry", "Downloads", "Cluster", "Embeddings", "Imaging",
                "Segmentation", "Tensors", "JSON", "Redis", "Platform", "Hashing", hummingbird, hummingbirdCore,
                httpTypes, nioCore, nioHTTP1, nioHTTPTypes, logging, coreMetrics,
                lifecycle,
            ],
            exclude: ["Pages"], swiftSettings: settings),
        // 7: how many workers for a load, simulated; of the other rooms it knows nothing but what `bench` prints
        room("Planning", ["JSON", "Platform"]),
        // 7: what `kirie up` starts, and what `kirie bench` measures
        room("LocalCluster", ["Cluster", "Redis", "Platform", "Terminals", unixSignals]),
        room(
            "Benchmarks",
            [
                "LocalCluster", "Cluster", "Evaluation", "Embeddings", "SegmentAnything", "TextMatching",
                "NeuralNetworks", "Imaging",
                "Segmentation", "Tensors", "JSON", "Redis", "Platform", "Terminals", "Hashing",
            ]),
        // 8: the command line
        .executableTarget(
            name: "KirieCLI",
            dependencies: [
                "Planning",
                "Benchmarks", "Gateway", "LocalCluster", "Clients", "Workers", "Telemetry", "Cluster", "Evaluation",
                "Embeddings", "SegmentAnything", "TextMatching", "NeuralNetworks", "Checkpoints", "Exporting",
                "Imaging", "Segmentation", "Tensors", "Redis", "Terminals", "JSON", "Platform", "Hashing",
                argumentParser, logging, coreMetrics, lifecycle,
            ],
            // Flags and printing, which optimizing makes no faster: it would be the third longest to compile.
            swiftSettings: settings + [.unsafeFlags(["-Onone"])],
            // Half of the program is what back-traces get their lines from; they read it packed, too.
            linkerSettings: [.unsafeFlags(["-Xlinker", "--compress-debug-sections=zlib"])]),
        // tests, a room each
        tests(of: "Tensors", ["CKernels"]),
        tests(of: "NeuralNetworks", ["Tensors", "Platform"]),
        tests(of: "Platform", ["RedisTesting"]),
        tests(of: "JSON", ["Platform"]),
        tests(of: "Imaging", resources: [.copy("Fixtures")]),
        tests(of: "Hashing"),
        tests(
            of: "Planning",
            ["Cluster", "ClusterTesting", "Platform", "Redis", "RedisTesting", "Segmentation"]),
        tests(of: "Exporting", ["Imaging", "JSON", "Platform", "Segmentation"]),
        tests(of: "Segmentation", ["Cluster", "JSON", "Platform"], resources: [.copy("Fixtures")]),
        tests(of: "Checkpoints", ["Tensors", "Hashing"], resources: [.copy("Fixtures")]),
        tests(
            of: "SegmentAnything", ["Checkpoints", "NeuralNetworks", "Imaging", "JSON", "Segmentation", "Tensors"],
            resources: [.copy("Fixtures")]),
        tests(
            of: "TextMatching",
            ["Checkpoints", "NeuralNetworks", "Imaging", "Segmentation", "Tensors", "Platform"],
            resources: [.copy("Fixtures")]),
        tests(
            of: "Evaluation",
            ["Checkpoints", "Imaging", "Segmentation", "SegmentAnything", "TextMatching", "Tensors"]),
        tests(
            of: "KirieCLI",
            [
                "KirieTesting", "Checkpoints", "Clients", "Cluster", "Imaging", "Platform", "Redis", "RedisTesting",
                "Segmentation", "Tensors",
            ]),
        tests(of: "LocalCluster", ["Platform", "Redis", "RedisTesting"]),
        tests(of: "Telemetry", [coreMetrics]),
        tests(of: "Gateway", ["CPages", "Cluster", "Imaging", "JSON", "Segmentation"]),
        tests(
            of: "Workers",
            [
                "Checkpoints", "Cluster", "Embeddings", "Imaging", "JSON", "Redis", "RedisTesting", "SegmentAnything",
                "Segmentation", "Tensors",
            ]),
        tests(of: "Redis", ["RedisTesting"]),
        tests(
            of: "Embeddings", ["Platform", "RedisTesting", "Redis", "Segmentation", "Tensors"],
            resources: [.copy("Fixtures")]),
        tests(of: "Cluster", ["ClusterTesting", "Redis", "RedisTesting", "Segmentation"]),
        // the examples of documentation comments, compiled
        .testTarget(
            name: "DocumentationTests",
            dependencies: [
                "Workers", "Cluster", "SegmentAnything", "TextMatching", "Checkpoints", "Imaging", "Segmentation",
                "Tensors", "Redis", "RedisTesting", "Hashing", "JSON", "Platform", logging, lifecycle, unixSignals,
            ], swiftSettings: settings),
        // what is promised of the whole, held against real processes
        .testTarget(
            name: "PromisesTests",
            dependencies: [
                "KirieCLI", "KirieTesting", "Cluster", "ClusterTesting", "Embeddings", "SegmentAnything", "Imaging",
                "Segmentation", "Tensors", "Redis", "RedisTesting", "Platform",
            ], swiftSettings: settings),
        // one of the promises, over every kind of input
        .testTarget(
            name: "BadInputTests",
            dependencies: [
                "KirieCLI", "KirieTesting", "Checkpoints", "Cluster", "ClusterTesting", "Embeddings", "Hashing",
                "Imaging",
                "Platform", "Redis", "RedisTesting", "Segmentation", "Tensors",
            ], swiftSettings: settings),
        .target(
            name: "KirieTesting",
            dependencies: [
                "ClusterTesting", "RedisTesting", "Workers", "Cluster", "Embeddings", "SegmentAnything", "Checkpoints",
                "Imaging", "Segmentation", "Tensors", "Redis", "Platform", "Hashing",
            ], path: "Tests/KirieTesting", swiftSettings: settings),
        .target(
            name: "ClusterTesting", dependencies: ["Cluster", "Redis", "Segmentation"], path: "Tests/ClusterTesting",
            swiftSettings: settings),
        .target(
            name: "RedisTesting", dependencies: ["Redis", "Platform"], path: "Tests/RedisTesting",
            swiftSettings: settings),
    ]
)
