import java.io.FileInputStream;
import java.io.InputStream;
import java.net.Authenticator;
import java.net.CookieHandler;
import java.net.CookieManager;
import java.net.CookieStore;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.List;
import java.util.function.Supplier;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509TrustManager;

/** The walk with HTTP clients of Java. Usage: Clients.java CLIENT URL [CA-FILE]. Prints a line for each step. */
public class Clients {
  record Answer(int status, String body) {}

  interface Call {
    /** body is null where there is none. */
    Answer send(String method, String url, String body) throws Exception;
  }

  record Client(Call call, Supplier<List<String>> jar) {}

  static TrustManagerFactory trust;
  static SSLContext tls;

  public static void main(String[] args) throws Exception {
    if (args.length > 2) {
      KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
      store.load(null, null);
      try (InputStream in = new FileInputStream(args[2])) {
        store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(in));
      }
      trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
      trust.init(store);
      tls = SSLContext.getInstance("TLS");
      tls.init(null, trust.getTrustManagers(), null);
    }
    Client client =
        switch (args[0]) {
          case "java.net.http" -> javaNetHttp();
          case "HttpURLConnection" -> urlConnection();
          case "okhttp" -> okhttp();
          case "apache4" -> apache4(org.apache.http.client.config.CookieSpecs.STANDARD);
          case "apache4-default" -> apache4(org.apache.http.client.config.CookieSpecs.DEFAULT);
          case "apache5" -> apache5();
          case "jetty" -> jetty();
          default -> throw new IllegalArgumentException(args[0]);
        };
    walk(client, args[1]);
    System.exit(0); // the clients' threads would hold it
  }

  static void walk(Client client, String base) throws Exception {
    String user = "{\"user_id\":\"Jürgen 🧥\"}";
    List<String> before = List.of();
    for (String[] step :
        new String[][] {
          {"GET", "/auth/me", null},
          {"GET", "/auth/userinfo", null},
          {"POST", "/auth/login", user},
          {"GET", "/auth/me", null},
          {"POST", "/auth/refresh", null},
          {"GET", "/auth/me", null},
          {"POST", "/auth/logout", null},
          {"GET", "/auth/userinfo", null},
        }) {
      Answer answer = client.call.send(step[0], base + step[1], step[2]);
      // The JDK has no JSON reader.
      Matcher said = Pattern.compile("\"(?:code|user_id)\":\"([^\"]*)\"").matcher(answer.body);
      List<String> now = client.jar.get();
      String kept = now.isEmpty() ? "empty" : now.equals(before) ? "the same" : now.size() == 1 ? "new" : "both";
      byte[] line =
          "%s %s: %d %s, jar %s%n".formatted(step[0], step[1], answer.status, said.find() ? said.group(1) : "nobody", kept).getBytes(StandardCharsets.UTF_8);
      System.out.write(line, 0, line.length);
      before = now;
    }
    System.out.flush();
  }

  static Supplier<List<String>> of(CookieStore store) {
    return () -> store.getCookies().stream().map(c -> c.getName() + "=" + c.getValue()).collect(Collectors.toList());
  }

  /** With an Authenticator, which has the client look at the challenge of a 401. */
  static Client javaNetHttp() {
    CookieManager cookies = new CookieManager();
    var builder = java.net.http.HttpClient.newBuilder().cookieHandler(cookies).authenticator(new Authenticator() {});
    if (tls != null) {
      builder.sslContext(tls);
    }
    var client = builder.build();
    return new Client(
        (method, url, body) -> {
          var request = HttpRequest.newBuilder(URI.create(url));
          if (body == null) {
            request.method(method, HttpRequest.BodyPublishers.noBody());
          } else {
            request.method(method, HttpRequest.BodyPublishers.ofString(body)).header("Content-Type", "application/json");
          }
          HttpResponse<String> response = client.send(request.build(), HttpResponse.BodyHandlers.ofString());
          return new Answer(response.statusCode(), response.body());
        },
        of(cookies.getCookieStore()));
  }

  static Client urlConnection() {
    CookieManager cookies = new CookieManager();
    CookieHandler.setDefault(cookies);
    if (tls != null) {
      HttpsURLConnection.setDefaultSSLSocketFactory(tls.getSocketFactory());
    }
    return new Client(
        (method, url, body) -> {
          var connection = (HttpURLConnection) URI.create(url).toURL().openConnection();
          connection.setRequestMethod(method);
          if (body != null) {
            connection.setDoOutput(true);
            connection.setRequestProperty("Content-Type", "application/json");
            connection.getOutputStream().write(body.getBytes(StandardCharsets.UTF_8));
          }
          int status = connection.getResponseCode();
          try (InputStream in = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
            return new Answer(status, new String(in.readAllBytes(), StandardCharsets.UTF_8));
          }
        },
        of(cookies.getCookieStore()));
  }

  static Client okhttp() {
    CookieManager cookies = new CookieManager();
    var builder = new okhttp3.OkHttpClient.Builder().cookieJar(new okhttp3.java.net.cookiejar.JavaNetCookieJar(cookies));
    if (tls != null) {
      builder.sslSocketFactory(tls.getSocketFactory(), (X509TrustManager) trust.getTrustManagers()[0]);
    }
    var client = builder.build();
    return new Client(
        (method, url, body) -> {
          okhttp3.RequestBody sent = null;
          if (method.equals("POST")) {
            sent =
                body == null
                    ? okhttp3.RequestBody.create(new byte[0], null)
                    : okhttp3.RequestBody.create(body.getBytes(StandardCharsets.UTF_8), okhttp3.MediaType.get("application/json"));
          }
          try (var response = client.newCall(new okhttp3.Request.Builder().url(url).method(method, sent).build()).execute()) {
            return new Answer(response.code(), response.body().string());
          }
        },
        of(cookies.getCookieStore()));
  }

  /** STANDARD is RFC 6265. The default knows Expires only: it keeps a cookie that was cleared by Max-Age, without its value. */
  static Client apache4(String cookieSpec) {
    var jar = new org.apache.http.impl.client.BasicCookieStore();
    var config = org.apache.http.client.config.RequestConfig.custom().setCookieSpec(cookieSpec).build();
    var builder = org.apache.http.impl.client.HttpClients.custom().setDefaultCookieStore(jar).setDefaultRequestConfig(config);
    if (tls != null) {
      builder.setSSLContext(tls);
    }
    var client = builder.build();
    return new Client(
        (method, url, body) -> {
          var request = org.apache.http.client.methods.RequestBuilder.create(method).setUri(url);
          if (body != null) {
            request.setEntity(new org.apache.http.entity.StringEntity(body, org.apache.http.entity.ContentType.APPLICATION_JSON));
          }
          try (var response = client.execute(request.build())) {
            var entity = response.getEntity();
            return new Answer(response.getStatusLine().getStatusCode(), entity == null ? "" : org.apache.http.util.EntityUtils.toString(entity, "UTF-8"));
          }
        },
        () -> jar.getCookies().stream().filter(c -> !c.getValue().isEmpty()).map(c -> c.getName() + "=" + c.getValue()).collect(Collectors.toList()));
  }

  static Client apache5() {
    var jar = new org.apache.hc.client5.http.cookie.BasicCookieStore();
    var builder = org.apache.hc.client5.http.impl.classic.HttpClients.custom().setDefaultCookieStore(jar);
    if (tls != null) {
      builder.setConnectionManager(
          org.apache.hc.client5.http.impl.io.PoolingHttpClientConnectionManagerBuilder.create()
              .setTlsSocketStrategy(new org.apache.hc.client5.http.ssl.DefaultClientTlsStrategy(tls))
              .build());
    }
    var client = builder.build();
    return new Client(
        (method, url, body) -> {
          var request = org.apache.hc.core5.http.io.support.ClassicRequestBuilder.create(method).setUri(url);
          if (body != null) {
            request.setEntity(body, org.apache.hc.core5.http.ContentType.APPLICATION_JSON);
          }
          return client.execute(
              request.build(),
              response -> {
                var entity = response.getEntity();
                return new Answer(response.getCode(), entity == null ? "" : org.apache.hc.core5.http.io.entity.EntityUtils.toString(entity, StandardCharsets.UTF_8));
              });
        },
        () -> jar.getCookies().stream().map(c -> c.getName() + "=" + c.getValue()).collect(Collectors.toList()));
  }

  static Client jetty() throws Exception {
    var client = new org.eclipse.jetty.client.HttpClient();
    if (tls != null) {
      var factory = new org.eclipse.jetty.util.ssl.SslContextFactory.Client();
      factory.setSslContext(tls);
      client.setSslContextFactory(factory);
    }
    client.start();
    return new Client(
        (method, url, body) -> {
          var request = client.newRequest(url).method(method);
          if (body != null) {
            request.body(new org.eclipse.jetty.client.StringRequestContent("application/json", body, StandardCharsets.UTF_8));
          }
          var response = request.send();
          return new Answer(response.getStatus(), new String(response.getContent(), StandardCharsets.UTF_8));
        },
        () -> client.getHttpCookieStore().all().stream().map(c -> c.getName() + "=" + c.getValue()).collect(Collectors.toList()));
  }
}
