import HTTPTypes
import Hummingbird
import JSON

/// The routes of clients that people already have: Roboflow's, Label Studio's, CVAT's.
struct CompatibilityRoutes: Sendable {
    private let roboflow: RoboflowRoutes
    private let labelStudio: LabelStudioRoutes
    private let cvat: CVATRoutes

    /// Routes over a desk.
    ///
    /// - Parameters:
    ///   - desk: what they share.
    ///   - labelStudioFolders: where Label Studio keeps its pictures.
    ///   - instance: what tells this gateway from others.
    init(desk: ClientDesk, labelStudioFolders: LabelStudioFolders, instance: String) {
        roboflow = RoboflowRoutes(desk: desk, instance: instance)
        labelStudio = LabelStudioRoutes(
            desk: desk, images: LabelStudioImages(desk: desk, folders: labelStudioFolders))
        cvat = CVATRoutes(desk: desk)
    }

    /// Paths whose routes look for the key themselves.
    static let paths: Set<String> = RoboflowRoutes.paths.union(LabelStudioRoutes.paths).union(CVATRoutes.paths)

    /// What is posted to `/`: CVAT calls a function directly so.
    var rootHandler: RouteTable.Handler { cvat.rootHandler }

    func add(to routes: RouteTable) {
        roboflow.add(to: routes)
        labelStudio.add(to: routes)
        cvat.add(to: routes)
    }

    /// A handler whose errors have a client's own shape.
    ///
    /// - Parameters:
    ///   - statuses: what becomes of statuses that the client does not know.
    ///   - shape: the body.
    ///   - handler: may throw anything.
    /// - Returns: a handler that throws ``ShapedFault``.
    static func shaping(
        statuses: [Int: HTTPResponse.Status] = [:], _ shape: @escaping @Sendable (Problem) -> JSONValue,
        _ handler: @escaping RouteTable.Handler
    ) -> RouteTable.Handler {
        { request, context in
            do { return try await handler(request, context) } catch {
                var problem = Problem(of: error)
                problem.status = statuses[Int(problem.status.code)] ?? problem.status
                problem.shape = shape
                throw ShapedFault(problem: problem, cause: error)
            }
        }
    }
}
