// The part of Livy that runs in a session's driver. Maven Central has Livy's server and the other part of
// the driver (livy-rsc), but not livy-repl. This class replaces it: it speaks the same protocol with the
// server, for Python only, and without completion and cancellation.
package org.apache.livy.repl

import java.io.{BufferedReader, File, InputStreamReader, PrintWriter}
import java.lang.ProcessBuilder.Redirect
import java.nio.charset.StandardCharsets.UTF_8
import java.nio.file.Files
import java.security.SecureRandom
import java.util.concurrent.{ConcurrentSkipListMap, Executors}
import java.util.concurrent.atomic.AtomicInteger

import scala.collection.JavaConverters._

import com.fasterxml.jackson.databind.ObjectMapper
import io.netty.channel.ChannelHandlerContext
import org.apache.livy.rsc.{BaseProtocol, RSCConf, ReplJobResults}
import org.apache.livy.rsc.driver.{RSCDriver, SparkEntries, Statement, StatementState}
import org.apache.livy.rsc.rpc.Rpc
import org.apache.spark.SparkConf
import py4j.GatewayServer

class ReplDriver(conf: SparkConf, livyConf: RSCConf) extends RSCDriver(conf, livyConf) {
  private val statements = new ConcurrentSkipListMap[Int, Statement]
  private val nextId = new AtomicInteger
  private val worker = Executors.newSingleThreadExecutor()
  @volatile private var state = "starting"
  @volatile private var python: Python = _

  override protected def initializeSparkEntries(): SparkEntries = {
    val entries = super.initializeSparkEntries()
    python = new Python(entries, conf)
    changeState("idle")
    entries
  }

  override protected def shutdownContext(): Unit = {
    worker.shutdownNow()
    if (python != null) python.close()
    super.shutdownContext()
  }

  override protected def onClientAuthenticated(client: Rpc): Unit =
    client.call(new BaseProtocol.ReplState(state))

  def handle(ctx: ChannelHandlerContext, request: BaseProtocol.ReplJobRequest): Int = {
    val id = nextId.getAndIncrement()
    val statement = new Statement(id, request.code, StatementState.Waiting, null)
    statements.put(id, statement)
    worker.submit(new Runnable { override def run(): Unit = execute(statement) })
    id
  }

  def handle(ctx: ChannelHandlerContext, request: BaseProtocol.GetReplJobResults): ReplJobResults = {
    val wanted =
      if (request.allResults) statements
      else statements.subMap(request.from, request.from + request.size)
    new ReplJobResults(wanted.values.asScala.toArray)
  }

  private def execute(statement: Statement): Unit = {
    changeState("busy")
    statement.compareAndTransit(StatementState.Waiting, StatementState.Running)
    statement.output = python.execute(statement.id, statement.code)
    statement.compareAndTransit(StatementState.Running, StatementState.Available)
    statement.updateProgress(1)
    changeState("idle")
  }

  private def changeState(to: String): Unit = {
    state = to
    broadcast(new BaseProtocol.ReplState(to))
  }
}

/** The session's Python, which gets statements and gives results, one JSON a line. */
private class Python(entries: SparkEntries, conf: SparkConf) {
  private val secret = new SecureRandom().longs(4).toArray.map(_.toHexString).mkString
  private val gateway = new GatewayServer.GatewayServerBuilder(entries)
    .authToken(secret)
    .javaPort(0)
    .build()
  gateway.start()

  private val process = {
    val shell = File.createTempFile("repl", ".py")
    Files.copy(getClass.getResourceAsStream("/shell.py"), shell.toPath,
      java.nio.file.StandardCopyOption.REPLACE_EXISTING)
    val executable = conf.getOption("spark.pyspark.python")
      .orElse(sys.env.get("PYSPARK_PYTHON"))
      .getOrElse("python")
    val builder = new ProcessBuilder(executable, shell.getPath)
    // PySpark runs this in the executors, whatever the configuration says.
    builder.environment.put("PYSPARK_PYTHON", executable)
    builder.environment.put("PYSPARK_GATEWAY_PORT", gateway.getListeningPort.toString)
    builder.environment.put("PYSPARK_GATEWAY_SECRET", secret)
    builder.redirectError(Redirect.INHERIT).start()
  }
  private val statements = new PrintWriter(process.getOutputStream, true)
  private val results = new BufferedReader(new InputStreamReader(process.getInputStream, UTF_8))

  def execute(id: Int, code: String): String = {
    statements.println(Json("id" -> id, "code" -> code))
    Option(results.readLine()).getOrElse(Json(
      "status" -> "error", "execution_count" -> id, "ename" -> "Error",
      "evalue" -> "the session's Python has died: see the driver's log",
      "traceback" -> Array.empty[String]))
  }

  def close(): Unit = {
    statements.close()
    process.destroy()
    gateway.shutdown()
  }
}

private object Json {
  private val mapper = new ObjectMapper

  def apply(values: (String, Any)*): String = mapper.writeValueAsString(values.toMap.asJava)
}
