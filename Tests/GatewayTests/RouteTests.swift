import Gateway
import Testing

/// Which methods a path knows.
@Suite struct RouteTests {
    @Test func aPathIsKnownByItsParts() {
        let paths = KnownPaths()
        paths.add("/v1/jobs/{id}", allowed: "GET")
        paths.add("/v1/jobs", allowed: "POST")
        paths.add("/", allowed: "HEAD")
        #expect(paths.allowed("/v1/jobs/a") == "GET")
        #expect(paths.allowed("/v1/jobs/") == "POST")
        #expect(paths.allowed("/") == "HEAD")
        #expect(paths.allowed("/v1/jobs/a/b") == nil)
        #expect(paths.allowed("/v2/jobs") == nil)
    }
}
