import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;

import org.apache.kafka.common.utils.Utils;

/**
 * Reads keys from stdin, each after its length in four bytes, and prints the partition that Kafka's producer gives to
 * each, one a line. The only argument is the number of partitions.
 */
public class Partitions {
    public static void main(String[] args) throws IOException {
        int count = Integer.parseInt(args[0]);
        StringBuilder answer = new StringBuilder();
        try (DataInputStream in = new DataInputStream(new BufferedInputStream(System.in))) {
            while (true) {
                int length;
                try {
                    length = in.readInt();
                } catch (EOFException end) {
                    break;
                }
                byte[] key = in.readNBytes(length);
                answer.append(Utils.toPositive(Utils.murmur2(key)) % count).append('\n');
            }
        }
        System.out.print(answer);
    }
}
